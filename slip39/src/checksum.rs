//! RS1024, the Reed-Solomon code over words: it finds any change of up to three of them. It never corrects one.

/// Words of a checksum.
pub(crate) const LEN: usize = 3;

const GENERATOR: [u32; 10] = [
    0x00e0_e040,
    0x01c1_c080,
    0x0383_8100,
    0x0707_0200,
    0x0e0e_0009,
    0x1c0c_2412,
    0x3808_6c24,
    0x3090_fc48,
    0x21b1_f890,
    0x03f3_f120,
];

/// The checksum of a share's other words.
pub(crate) fn create(words: &[u16], extendable: bool) -> [u16; LEN] {
    let state = polymod(words.iter().copied().chain([0; LEN]), extendable) ^ 1;
    [ten_bits(state >> 20), ten_bits(state >> 10), ten_bits(state)]
}

/// Whether all words of a share, checksum included, fit together.
pub(crate) fn verify(words: &[u16], extendable: bool) -> bool {
    polymod(words.iter().copied(), extendable) == 1
}

/// The lowest ten bits: a word.
pub(crate) fn ten_bits(value: u32) -> u16 {
    u16::try_from(value & 1023).unwrap_or_default()
}

fn polymod(words: impl Iterator<Item = u16>, extendable: bool) -> u32 {
    let customization = if extendable { "shamir_extendable" } else { "shamir" };
    let mut state = 1_u32;
    for word in customization.bytes().map(u16::from).chain(words) {
        let mut top = state >> 20;
        state = ((state & 0xf_ffff) << 10) ^ u32::from(word);
        for part in GENERATOR {
            state ^= part & (top & 1).wrapping_neg();
            top >>= 1;
        }
    }
    state
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_is_part_of_it() {
        let words = [5, 1023, 0, 77];
        for extendable in [false, true] {
            let all = [&words[..], &create(&words, extendable)].concat();
            assert!(verify(&all, extendable));
            assert!(!verify(&all, !extendable));
        }
    }
}
