//! The demo itself, as a user starts it: deposit, sweep, payout, four attacks, the verified log.

use devnet::programs::Programs;

#[test]
fn the_story_is_told_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let said = Programs::find()
        .unwrap()
        .run("devnet", &["quickstart", "--dir", dir.path().join("run").to_str().unwrap()])
        .unwrap();
    for line in [
        "after 3 blocks all five are final and credited",
        "went through  planned, signed, broadcast, confirmed, final",
        "in cold storage",
        "the same order sent again pays nothing more",
        "stopped by  sweep-external: ",
        "stopped by  policy-denied: ",
        "stopped by  no-order: ",
        "stopped by  mutual TLS: CertificateRequired",
        "The log holds.",
        "The story is told",
    ] {
        assert!(said.contains(line), "not told: {line}\n{said}");
    }
    assert!(!said.contains('\u{1b}'), "colours belong on a terminal only");
}
