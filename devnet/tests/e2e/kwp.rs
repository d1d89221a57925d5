//! Wallets whose children are under key-encryption keys, whole: the keys come in with a PIN that the service never has,
//! deposits are swept and paid out, and what goes wrong with an import keeps the signer from serving.

use std::fs;

use bitcoin::Amount;
use devnet::Stack;
use devnet::stack::{Children, Options, Tier, Wish};

const DEPOSIT: Amount = Amount::from_sat(3_000_000);
const PAYOUT: Amount = Amount::from_sat(1_200_000);

#[tokio::test(flavor = "multi_thread")]
async fn children_under_key_encryption_keys_sweep_and_pay() {
    let children = Children { external: 8, change: 4 };
    let options = Options { tier: Tier::TokenHdKwp, children, ..Options::default() };
    let mut stack = Stack::start(options).await.unwrap();
    for number in 0..3 {
        let key = format!("d{number}");
        let issued = stack.issue("deposits", &key, &key).await.unwrap();
        assert_eq!(issued.tier, "token-hd");
        stack.node.pay(&issued.address, DEPOSIT).await.unwrap();
    }
    let hot = stack.issue("hot", "funding", "funding").await.unwrap();
    stack.node.pay(&hot.address, DEPOSIT).await.unwrap();
    stack.node.mine(4).await.unwrap();
    stack.deposit_in(&hot.address, "final").await.unwrap();
    let sweep = stack.create_sweep("first").await.unwrap();
    stack.sweep_in(&sweep.id, "broadcast").await.unwrap();
    let to = stack.issue("deposits", "customer", "customer").await.unwrap().address;
    let wish = Wish { id: "order-1", amount: PAYOUT, to: &to, expires_in: "1h" };
    let order = stack.sign_order(&wish).unwrap();
    let payout = stack.submit(&order).await.unwrap();
    stack.payout_in(&payout.id, "broadcast").await.unwrap();
    stack.node.mine(4).await.unwrap();
    stack.sweep_in(&sweep.id, "final").await.unwrap();
    stack.payout_in(&payout.id, "final").await.unwrap();

    stack.signer.stop().unwrap();
    imports_that_are_not_ended_or_not_allowed(&stack);
    let with = fs::read_to_string(config(&stack)).unwrap();
    fs::write(config(&stack), with.replace("\"aes-kwp\"", "\"rsa-oaep-sha1\"")).unwrap();
    let said = stack.run_signer(&["import", bundle(&stack).as_str()]).unwrap_err().to_string();
    assert!(said.contains("aes-kwp") && said.contains("schemes"), "{said}");
    fs::write(config(&stack), with).unwrap();
    keys_that_the_log_does_not_know_keep_the_signer_down(&stack);
}

/// As if every import had been cut off before the log said that it was done: here there is another log.
fn keys_that_the_log_does_not_know_keep_the_signer_down(stack: &Stack) {
    let state = stack.dir().join("signer").join("state");
    for entry in fs::read_dir(state).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() && !path.ends_with("token-keys.toml") {
            fs::remove_file(path).unwrap();
        }
    }
    stack.run_signer(&["init"]).unwrap();
    let said = stack.run_signer(&["serve"]).unwrap_err().to_string();
    assert!(said.contains("its import was cut off"), "{said}");
}

fn imports_that_are_not_ended_or_not_allowed(stack: &Stack) {
    let dir = stack.dir().join("ceremony");
    let services = stack.dir().join("token").join("user.pin");
    let (pem, services) = (dir.join("one-time.pem"), services.to_str().unwrap());
    let open = |pin: &str| {
        stack.run_signer(&["kek", "--pin-file", pin, "open", "--pem", pem.to_str().unwrap()])
    };
    let said = open(services).unwrap_err().to_string();
    assert!(said.contains("service's own PIN file"), "{said}");
    let link = dir.join("link.pin");
    fs::hard_link(services, &link).unwrap();
    let said = open(link.to_str().unwrap()).unwrap_err().to_string();
    assert!(said.contains("service's own PIN file"), "{said}");
    // Whoever keeps the token's PIN elsewhere has it: this test does. Those who imported do not have it any more.
    let pin = dir.join("kept.pin");
    fs::copy(services, &pin).unwrap();
    assert_ne!(fs::read(&pin).unwrap(), fs::read(dir.join("attended.pin")).unwrap());
    let pin = pin.to_str().unwrap();
    open(pin).unwrap();
    assert!(fs::read_to_string(&pem).unwrap().contains("PUBLIC KEY"));
    for command in [&["wrapping-key"][..], &["import", bundle(stack).as_str()], &["key", "list"]] {
        let said = stack.run_signer(command).unwrap_err().to_string();
        assert!(said.contains("signer kek close"), "{said}");
    }
    let old = dir.join("hot.kek");
    let kek = bundle::KekFile::parse(&fs::read_to_string(&old).unwrap()).unwrap();
    let fingerprint = hex::encode(kek.fingerprint());
    let import = |file: &std::path::Path, kek: &str| {
        let file = file.to_str().unwrap();
        stack.run_signer(&["kek", "--pin-file", pin, "import", file, "--kek", kek])
    };
    let said = import(&old, &"00".repeat(32)).unwrap_err().to_string();
    assert!(said.contains("another key than the one that was compared"), "{said}");
    // It was imported before, and by another one-time key: it does not end this import.
    let said = import(&old, &fingerprint).unwrap_err().to_string();
    assert!(said.contains("made for another one-time key"), "{said}");
    let said = stack.run_signer(&["key", "list"]).unwrap_err().to_string();
    assert!(said.contains("signer kek close"), "{said}");
    let forged = dir.join("forged.kek");
    let text = fs::read_to_string(&old).unwrap();
    fs::write(&forged, text.replace("canary ", "canary 00")).unwrap();
    let said = import(&forged, &fingerprint).unwrap_err().to_string();
    assert!(said.contains("no key-encryption key as a ceremony"), "{said}");
    stack.run_signer(&["kek", "--pin-file", pin, "close"]).unwrap();
    let said = stack.run_signer(&["kek", "--pin-file", pin, "close"]).unwrap_err().to_string();
    assert!(said.contains("no import was open"), "{said}");
    // With none open it is what goes on with an import that was cut off: the key is found there.
    assert!(import(&old, &fingerprint).unwrap().contains("destroyed"));
    // Both are needed.
    let forget = |kek: &str| stack.run_signer(&["kek", "--pin-file", pin, "forget", kek]);
    let said = forget(&fingerprint).unwrap_err().to_string();
    assert!(said.contains("wallet \"hot\""), "{said}");
    assert!(forget(&"00".repeat(32)).unwrap_err().to_string().contains("no such key"));
    stack.run_signer(&["key", "list"]).unwrap();
}

fn config(stack: &Stack) -> std::path::PathBuf {
    stack.dir().join("signer").join("signer.toml")
}

fn bundle(stack: &Stack) -> String {
    stack.bundle("deposits").to_str().unwrap().to_owned()
}
