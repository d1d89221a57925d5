//! SLIP-39 shares: what is read is written as the same words. The first byte chooses: text as it is, or numbers made
//! words with the checksum that fits, so that mutations get past it.

use slip39::Mnemonic;

pub(crate) fn run(data: &[u8]) {
    let Some((mode, rest)) = data.split_first() else { return };
    let text =
        if mode % 2 == 1 { with_checksum(rest) } else { String::from_utf8_lossy(rest).into() };
    let Ok(share) = Mnemonic::parse(&text) else { return };
    let plain: Vec<_> = text.split_whitespace().map(str::to_ascii_lowercase).collect();
    assert_eq!(*share.to_words(), plain.join(" "));
    let set = share.set();
    assert!(share.member_threshold() >= 1 && share.group() < 16 && share.member() < 16);
    assert!((1..=set.group_count).contains(&set.group_threshold) && set.identifier < 1 << 15);
}

/// Two bytes a word, big-endian, and three words of RS1024.
fn with_checksum(data: &[u8]) -> String {
    let number = |pair: &[u8]| u32::from(pair[0] & 3) << 8 | u32::from(pair[1]);
    let mut words: Vec<u32> = data.chunks_exact(2).take(100).map(number).collect();
    let extendable = words.get(1).is_some_and(|word| word >> 4 & 1 == 1);
    let state = polymod(&[&words[..], &[0; 3]].concat(), extendable) ^ 1;
    words.extend([state >> 20 & 1023, state >> 10 & 1023, state & 1023]);
    let list: Vec<_> = include_str!("../../slip39/src/words.txt").split_whitespace().collect();
    let words: Vec<_> = words.into_iter().map(|word| list[word as usize]).collect();
    words.join(" ")
}

/// As the specification's Python has it.
fn polymod(words: &[u32], extendable: bool) -> u32 {
    const GENERATOR: [u32; 10] = [
        0xe0_e040,
        0x1c1_c080,
        0x383_8100,
        0x707_0200,
        0xe0e_0009,
        0x1c0c_2412,
        0x3808_6c24,
        0x3090_fc48,
        0x21b1_f890,
        0x3f3_f120,
    ];
    let custom = if extendable { "shamir_extendable" } else { "shamir" };
    custom.bytes().map(u32::from).chain(words.iter().copied()).fold(1, |state, word| {
        let top = state >> 20;
        let next = (state & 0xf_ffff) << 10 ^ word;
        (0..10).filter(|at| top >> at & 1 == 1).fold(next, |next, at| next ^ GENERATOR[at])
    })
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    type Vector = (String, Vec<String>, String, String);
    let file = include_str!("../../slip39/tests/vectors.json");
    let vectors: Vec<Vector> = serde_json::from_str(file).unwrap();
    let list: Vec<_> = include_str!("../../slip39/src/words.txt").split_whitespace().collect();
    let mut seeds = Vec::new();
    for words in vectors.iter().filter_map(|(_, shares, ..)| shares.first()) {
        seeds.push([b"\0", words.as_bytes()].concat());
        let mut numbers: Vec<u8> = vec![1];
        let count = words.split(' ').count();
        for word in words.split(' ').take(count.saturating_sub(3)) {
            let at = list.iter().position(|other| *other == word).unwrap_or_default();
            numbers.extend(u16::try_from(at).unwrap().to_be_bytes());
        }
        seeds.push(numbers);
    }
    seeds
}
