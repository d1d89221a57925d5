//! How large a transaction of inputs of one kind can get at most, in weight units (BIP-141). It never builds one.

use bitcoin::Script;

/// One signed P2WPKH input at its largest: outpoint, empty script, sequence (41 bytes, four units each) and a witness of
/// two items: a low-S DER signature with its sighash byte (72 bytes at most) and a compressed key.
pub const INPUT_WEIGHT: u64 = 41 * 4 + 1 + 1 + 72 + 1 + 33;

/// One signed P2TR input by key path, always of this size: 41 bytes as above and a signature of 64 bytes without a
/// sighash byte (57.5 vbytes).
pub const TAPROOT_INPUT_WEIGHT: u64 = 41 * 4 + 1 + 1 + 64;

/// One signed P2SH-P2WPKH input: as P2WPKH, with a script of one push of 22 bytes.
pub const NESTED_INPUT_WEIGHT: u64 = INPUT_WEIGHT + 23 * 4;

/// One signed P2PKH input: 41 bytes as above and a script of two pushes, signature and key, all at four units a byte;
/// among no inputs with witness it has not even an empty one.
pub const LEGACY_INPUT_WEIGHT: u64 = (41 + 1 + 72 + 1 + 33) * 4;

/// The largest weight of a signed input that spends this script. Of P2SH our wallets have P2SH-P2WPKH alone.
#[must_use]
pub fn input_weight(script: &Script) -> u64 {
    if script.is_p2tr() {
        TAPROOT_INPUT_WEIGHT
    } else if script.is_p2sh() {
        NESTED_INPUT_WEIGHT
    } else if script.is_p2pkh() {
        LEGACY_INPUT_WEIGHT
    } else {
        INPUT_WEIGHT
    }
}

/// The largest weight of a signed transaction with so many P2WPKH inputs and these outputs.
#[must_use]
pub fn weight(inputs: usize, outputs: &[&Script]) -> u64 {
    weight_of(inputs, INPUT_WEIGHT, outputs)
}

/// The largest weight of a signed transaction with so many inputs of `each` weight and these outputs.
#[must_use]
pub fn weight_of(inputs: usize, each: u64, outputs: &[&Script]) -> u64 {
    let inputs_wu = wide(inputs).saturating_mul(each);
    let outputs_bytes = outputs.iter().fold(0_u64, |sum, script| {
        let length = wide(script.len());
        sum.saturating_add(8).saturating_add(count(length)).saturating_add(length)
    });
    // Version, lock time and both counts weigh four units a byte, the segwit marker and flag one each.
    let frame = 8_u64
        .saturating_add(count(wide(inputs)))
        .saturating_add(count(wide(outputs.len())))
        .saturating_add(outputs_bytes)
        .saturating_mul(4)
        .saturating_add(2);
    frame.saturating_add(inputs_wu)
}

fn wide(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

/// Bytes of a compact size.
fn count(n: u64) -> u64 {
    match n {
        0..=0xfc => 1,
        0xfd..=0xffff => 3,
        0x1_0000..=0xffff_ffff => 5,
        _ => 9,
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::absolute::LockTime;
    use bitcoin::transaction::Version;
    use bitcoin::{Amount, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};

    use super::*;

    #[test]
    fn equals_the_weight_of_a_built_transaction() {
        let (one, two) =
            (Witness::from_slice(&[vec![1; 64]]), Witness::from_slice(&[vec![1; 72], vec![2; 33]]));
        let inputs = [
            (INPUT_WEIGHT, 0, &two, 0),
            (TAPROOT_INPUT_WEIGHT, 0, &one, 0),
            (NESTED_INPUT_WEIGHT, 23, &two, 0),
            // Marker and flag are counted, and are not there.
            (LEGACY_INPUT_WEIGHT, 107, &Witness::new(), 2),
        ];
        for (each, script, witness, over) in inputs {
            equals(each, script, witness, over);
        }
        assert_eq!(TAPROOT_INPUT_WEIGHT, 230, "57.5 vbytes");
        assert_eq!((NESTED_INPUT_WEIGHT, LEGACY_INPUT_WEIGHT), (364, 148 * 4), "91 and 148 vbytes");
    }

    fn equals(each: u64, script: usize, witness: &Witness, over: u64) {
        let scripts = [ScriptBuf::from_bytes(vec![0; 22]), ScriptBuf::from_bytes(vec![0; 34])];
        for inputs in [1, 2, 252, 253, 1_400] {
            for outputs in 1..=2 {
                let (witness, script_sig) = (witness.clone(), ScriptBuf::from(vec![0; script]));
                let sequence = Sequence::MAX;
                let input = TxIn { witness, script_sig, sequence, ..TxIn::default() };
                let output = scripts[..outputs].iter().map(|script_pubkey| TxOut {
                    value: Amount::ONE_BTC,
                    script_pubkey: script_pubkey.clone(),
                });
                let built = Transaction {
                    version: Version::TWO,
                    lock_time: LockTime::ZERO,
                    input: vec![input; inputs],
                    output: output.collect(),
                };
                let refs: Vec<&Script> = scripts[..outputs].iter().map(|s| s.as_script()).collect();
                let weight = weight_of(inputs, each, &refs);
                assert_eq!(weight.checked_sub(over), Some(built.weight().to_wu()));
            }
        }
    }
}
