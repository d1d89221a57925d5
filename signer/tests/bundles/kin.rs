//! Two multisig wallets with one key of ours: what people say of the key holds for both, whatever name they use.

use audit::entry::Event;
use signer::keys::{KeyError, Kin, set_state};
use signer::ledger::KeyState;
use signer::log::Step;
use signer::records::bundle_path;
use tempfile::TempDir;

use crate::support::{House, PEM, cosigner, rewrapped, rules_of_two, shared, wallet};

#[tokio::test]
async fn a_key_has_one_state_in_all_its_wallets() {
    let folder = TempDir::new().unwrap();
    let [ours, one, two] = [(); 3].map(|()| cosigner(folder.path(), &PEM, [4, 2]));
    let rewrapped = rewrapped(folder.path(), &ours, &PEM, [4, 2]);
    let descriptors = [shared(2, &[&ours, &one]), shared(2, &[&one, &two, &ours])];
    let rules = rules_of_two(("deposits", &descriptors[0]), ("hot", &descriptors[1]));
    let (house, [deposits, hot]) = (House::new(&PEM).await, ["deposits", "hot"].map(wallet));
    let log = house.open().await;
    house.import(&log, &rules, "deposits", &ours.path).await.unwrap();
    house.import(&log, &rules, "hot", &rewrapped.path).await.unwrap();
    let kin = log.read(|ledger| Kin::read(ledger, house.folder.path()));
    let states = || log.read(|ledger| [&deposits, &hot].map(|name| kin.state(ledger, name)));

    // As an entry says it that knows the wallet's name alone.
    let (tier, reason) = ("token-hd".to_owned(), "it was left lying about".to_owned());
    let (name, state) = ("deposits".to_owned(), "suspended".to_owned());
    let event = Event::KeyState { wallet: name, tier, state, reason };
    log.commit(|_| Step::write(vec![event], ())).await.unwrap();
    assert_eq!(states(), [KeyState::Suspended; 2]);
    let set = |wallet, next| set_state(&log, &rules, &kin, wallet, next, "a test");
    let again = set(&hot, KeyState::Suspended).await;
    assert!(matches!(again, Err(KeyError::Transition { .. })), "{again:?}");
    set(&hot, KeyState::Active).await.unwrap();
    assert_eq!(states(), [KeyState::Active; 2], "taken back under every name");
    set(&hot, KeyState::Compromised).await.unwrap();
    assert_eq!(states(), [KeyState::Compromised; 2]);
    assert!(set(&deposits, KeyState::Active).await.is_err());

    // Without its bundle nobody can say which key a wallet has: then all of its descriptor count.
    std::fs::remove_file(bundle_path(house.folder.path(), ours.digest)).unwrap();
    let kin = log.read(|ledger| Kin::read(ledger, house.folder.path()));
    assert_eq!(log.read(|ledger| kin.state(ledger, &deposits)), KeyState::Compromised);
}

#[tokio::test]
async fn a_strangers_key_in_two_wallets_makes_them_no_kin() {
    let folder = TempDir::new().unwrap();
    let [ours, also_ours, stranger] = [(); 3].map(|()| cosigner(folder.path(), &PEM, [4, 2]));
    let descriptors = [shared(2, &[&ours, &stranger]), shared(2, &[&also_ours, &stranger])];
    let rules = rules_of_two(("deposits", &descriptors[0]), ("hot", &descriptors[1]));
    let house = House::new(&PEM).await;
    let log = house.open().await;
    house.import(&log, &rules, "deposits", &ours.path).await.unwrap();
    house.import(&log, &rules, "hot", &also_ours.path).await.unwrap();
    let kin = log.read(|ledger| Kin::read(ledger, house.folder.path()));
    set_state(&log, &rules, &kin, &wallet("deposits"), KeyState::Compromised, "a test")
        .await
        .unwrap();
    assert_eq!(log.read(|ledger| kin.state(ledger, &wallet("hot"))), KeyState::Active);
}
