//! How large a transaction of P2WPKH inputs can get at most, in weight units (BIP-141). It never builds one.

use bitcoin::Script;

/// One signed P2WPKH input at its largest: outpoint, empty script, sequence (41 bytes, four units each) and a witness of
/// two items: a low-S DER signature with its sighash byte (72 bytes at most) and a compressed key.
pub const INPUT_WEIGHT: u64 = 41 * 4 + 1 + 1 + 72 + 1 + 33;

/// The largest weight of a signed transaction with so many P2WPKH inputs and these outputs.
#[must_use]
pub fn weight(inputs: usize, outputs: &[&Script]) -> u64 {
    let inputs_wu = wide(inputs).saturating_mul(INPUT_WEIGHT);
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
        let scripts = [ScriptBuf::from_bytes(vec![0; 22]), ScriptBuf::from_bytes(vec![0; 34])];
        for inputs in [1, 2, 252, 253, 1_400] {
            for outputs in 1..=2 {
                let witness = Witness::from_slice(&[vec![1; 72], vec![2; 33]]);
                let input = TxIn { witness, sequence: Sequence::MAX, ..TxIn::default() };
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
                assert_eq!(weight(inputs, &refs), built.weight().to_wu());
            }
        }
    }
}
