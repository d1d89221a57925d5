//! What is done at the signer's machine where the policy asks officers: by as many as it says, for this log, token and task,
//! in time and once; and a machine that they have not let serve does not.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use audit::entry::Event;
use ed25519_dalek::{Signer as _, SigningKey};
use policy::names::{KeyName, WalletName};
use signer::clearing::{Clearing, by_officers};
use signer::keys::{self, Kin};
use signer::ledger::{KeyState, Ledger};
use signer::log::{Clock, Log, Step};
use signer::start::{note_told, open_log, open_token};
use signer::token::Token;
use signer::{administer, begin, set_pin};
use statement::{Deed, NO_TOKEN, Says, Signed, Statement, Task};

use crate::common::{Knobs, policy_signatures, policy_text};
use crate::house::House;

const OFFICERS: [(&str, u8); 3] = [("ada", 31), ("cyd", 32), ("eve", 33)];

fn key(name: &str) -> SigningKey {
    let seed = OFFICERS.iter().find(|(known, _)| *known == name).map_or(66, |(_, seed)| *seed);
    SigningKey::from_bytes(&[seed; 32])
}

/// A signer whose policy asks two of three.
pub(crate) async fn house() -> House {
    let mut house = House::new().await;
    house.close().await;
    let mut more = String::new();
    for (name, _) in OFFICERS {
        let key = hex::encode(key(name).verifying_key().to_bytes());
        more +=
            &format!("[[officer]]\nname = \"{name}\"\ndomain = \"{name}\"\ned25519 = \"{key}\"\n");
    }
    more += "[[group]]\nname = \"board\"\nmembers = [\"ada\", \"cyd\", \"eve\"]\n[governance]\ntighten = \"1 of board\"\n\
             change = \"2 of board\"\ndelay = \"48h\"\nadminister = \"2 of board\"\n";
    let text = policy_text(&house.descriptors, &Knobs { version: 2, more, ..Knobs::default() });
    fs::write(&house.config.policy, &text).unwrap();
    fs::write(house.config.policy.with_extension("toml.sig"), policy_signatures(&text)).unwrap();
    house
}

/// As a command has it.
async fn at_the_machine(house: &House) -> (Arc<Token>, Log<Ledger>) {
    let token = open_token(&house.config, house.config.token.clone()).await.unwrap();
    let log = open_log(&house.config, &token, Clock::system()).await.unwrap();
    (token, log)
}

async fn leave(token: Arc<Token>, log: Log<Ledger>) {
    log.close().await.unwrap();
    drop(log);
    Arc::into_inner(token).unwrap().stop().await;
}

/// Statements as files.
pub(crate) struct Desk {
    pub(crate) folder: PathBuf,
    pub(crate) log: String,
    pub(crate) nonce: u8,
}

impl Desk {
    pub(crate) fn file(
        &mut self,
        officer: &str,
        task: &Task,
        change: impl FnOnce(&mut Statement),
    ) -> PathBuf {
        self.nonce += 1;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let mut statement = Statement {
            says: Says::Administer(task.clone()),
            log: self.log.clone(),
            network: asset::Network::Regtest.chain_id().to_string(),
            officer: KeyName::parse(officer).unwrap(),
            expires_unix: now + 3_600,
            nonce: [self.nonce; 16],
        };
        change(&mut statement);
        let bytes = statement.encode();
        let signature = key(officer).sign(&bytes).to_bytes();
        let path = self.folder.join(format!("{}.statement", self.nonce));
        fs::write(&path, Signed { statement: bytes, signature }.to_file()).unwrap();
        path
    }
}

#[tokio::test]
async fn a_task_needs_its_officers_for_this_token_and_log_in_time_and_once() {
    let mut house = house().await;
    house.open().await;
    house.close().await;
    let (token, log) = at_the_machine(&house).await;
    let task = Task { deed: Deed::SetPin, token: token.info().serial };
    let (folder, origin) = (house.folder().to_owned(), log.opening().origin.clone());
    let mut desk = Desk { folder, log: origin, nonce: 0 };
    let clock = Clock::system();
    let asked = async |files: &[PathBuf]| {
        let done = administer::by_quorum(&log, &house.config, &clock, &task, files).await;
        done.map_err(|error| format!("{error:#}"))
    };
    let none = asked(&[]).await.unwrap_err();
    assert!(none.contains("2 of board") && none.contains("administer set-pin"), "{none}");
    // Each of these would be one too many if it counted.
    let ada = desk.file("ada", &task, |_| {});
    let one = asked(std::slice::from_ref(&ada)).await.unwrap_err();
    assert!(one.contains("[ada]"), "{one}");
    let other = |deed| Task { deed, ..task.clone() };
    let import = other(Deed::Import([7; 32]));
    let elsewhere = Task { token: "ffff".to_owned(), ..task.clone() };
    for (file, why) in [
        (desk.file("ada", &task, |_| {}), "[ada]"),
        (desk.file("zoe", &task, |_| {}), "no officer \"zoe\""),
        (desk.file("cyd", &import, |_| {}), "it is for `import"),
        (desk.file("cyd", &elsewhere, |_| {}), "token ffff"),
        (desk.file("cyd", &task, |s| s.log = "cofferdam/0000".to_owned()), "for the log"),
        (desk.file("cyd", &task, |s| s.network = "bip122:0".to_owned()), "for bip122:0"),
        (desk.file("cyd", &task, |s| s.expires_unix = 1_700_000_000), "it ended"),
        (desk.file("cyd", &task, |s| s.expires_unix += 40 * 86_400), "31 days"),
        (desk.file("cyd", &task, |s| s.officer = KeyName::parse("eve").unwrap()), "signature"),
    ] {
        let refused = asked(std::slice::from_ref(&file)).await.unwrap_err();
        assert!(refused.contains(why), "{refused}");
    }
    let cyd = desk.file("cyd", &task, |_| {});
    asked(std::slice::from_ref(&cyd)).await.unwrap();
    // A try that was cut off is tried again, with the same files or without.
    asked(&[ada.clone(), cyd.clone()]).await.unwrap_err();
    asked(std::slice::from_ref(&cyd)).await.unwrap();
    asked(&[]).await.unwrap();
    // Done: used up.
    let event = Event::PinChanged { serial: task.token.clone() };
    log.commit(|_| Step::write(vec![event], ())).await.unwrap();
    asked(&[]).await.unwrap_err();
    let again = asked(&[ada, cyd]).await.unwrap_err();
    assert!(again.contains("counts once"), "{again}");
    leave(token, log).await;
}

#[tokio::test]
async fn a_machine_that_officers_have_not_let_serve_does_not() {
    let mut house = house().await;
    // The one that is there when the policy comes into force is the first site, and stays one.
    house.open().await;
    house.close().await;
    house.open().await;
    house.close().await;
    let site = house.config.state_dir.join("site");
    let before = fs::read_to_string(&site).unwrap();
    fs::remove_file(&site).unwrap();
    let refused = signer::serve::run(&house.config, Clock::system()).await;
    let refused = match refused {
        Ok(_) => panic!("it started"),
        Err(error) => error.to_string(),
    };
    assert!(refused.contains("was not activated"), "{refused}");
    let number = fs::read_to_string(&site).unwrap();
    assert!(number != before && refused.contains(number.trim()), "{refused}");

    let (token, log) = at_the_machine(&house).await;
    let serial = token.info().serial;
    let mut number_bytes = [0; 16];
    hex::decode_to_slice(number.trim(), &mut number_bytes).unwrap();
    let task = Task { deed: Deed::Activate(number_bytes), token: serial.clone() };
    let (folder, origin) = (house.folder().to_owned(), log.opening().origin.clone());
    let mut desk = Desk { folder, log: origin, nonce: 0 };
    let clock = Clock::system();
    let by = ["ada", "eve"].map(|name| desk.file(name, &task, |_| {}));
    let activate = async |files: &[PathBuf]| {
        administer::activate(&log, &house.config, &clock, &serial, files).await
    };
    activate(&by[..1]).await.unwrap_err();
    activate(&by[1..]).await.unwrap();
    leave(token, log).await;
    house.open().await;
    house.close().await;
}

#[tokio::test]
async fn a_token_whose_log_was_begun_gets_no_more_keys_without_officers() {
    let mut house = house().await;
    house.open().await;
    house.close().await;
    // As written down by a program from before there were sealing keys.
    let file = house.config.state_dir.join("token-keys.toml");
    let text = fs::read_to_string(&file).unwrap();
    let older = text.lines().filter(|line| !line.starts_with("sealing_spki"));
    fs::write(&file, older.flat_map(|line| [line, "\n"]).collect::<String>()).unwrap();
    let refused = begin::again(&house.config, &[]).await.unwrap_err().to_string();
    assert!(refused.contains("2 of board") && refused.contains("administer init"), "{refused}");
    let (token, log) = at_the_machine(&house).await;
    let task = Task { deed: Deed::Init, token: token.info().serial };
    let (folder, origin) = (house.folder().to_owned(), log.opening().origin.clone());
    leave(token, log).await;
    let mut desk = Desk { folder, log: origin, nonce: 0 };
    let by = ["ada", "eve"].map(|name| desk.file(name, &task, |_| {}));
    begin::again(&house.config, &by[..1]).await.unwrap_err();
    begin::again(&house.config, &by[1..]).await.unwrap();
    // Used up.
    begin::again(&house.config, &by).await.unwrap_err();
    // Nothing would be made: nobody is asked.
    fs::write(&file, &text).unwrap();
    begin::again(&house.config, &[]).await.unwrap();

    // Nor without that file: what the token has is found.
    fs::remove_file(&file).unwrap();
    begin::again(&house.config, &[]).await.unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
    // And what it lacks is not made.
    fs::remove_file(&file).unwrap();
    let objects = objects(house.folder());
    assert!(!objects.is_empty());
    objects.iter().for_each(|object| fs::remove_file(object).unwrap());
    let refused = begin::again(&house.config, &[]).await.unwrap_err().to_string();
    assert!(refused.contains("from a copy"), "{refused}");
    assert!(self::objects(house.folder()).is_empty() && !file.exists());
}

/// The files in which SoftHSM keeps keys, in this folder or below.
fn objects(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            found.extend(objects(&path));
        } else if path.extension().is_some_and(|end| end == "object")
            && path.file_stem().is_some_and(|name| name != "token")
        {
            found.push(path);
        }
    }
    found
}

fn write_pin(path: &Path, pin: &str) {
    let mut file = fs::OpenOptions::new();
    let file = file.write(true).create(true).truncate(true).mode(0o600).open(path);
    file.unwrap().write_all(pin.as_bytes()).unwrap();
}

#[tokio::test]
async fn officers_let_a_pin_be_changed_once_and_no_change_is_written_down_that_was_not_begun() {
    let mut house = house().await;
    house.open().await;
    house.close().await;
    let pin = house.config.token.pin_file.clone().unwrap();
    let (beside, given) =
        (PathBuf::from(format!("{}.new", pin.display())), pin.with_extension("given"));
    let set = async |finish, statements: &[PathBuf]| {
        let (new_pin_file, statements) = (Some(given.clone()), statements.to_vec());
        let asked = set_pin::Asked { new_pin_file, finish, statements, ..Default::default() };
        let mut said = Vec::new();
        let changing = set_pin::prepare(&house.config, &asked).unwrap();
        let done = set_pin::set_pin(&house.config, changing, &asked, &mut said).await;
        done.map(|()| String::from_utf8(said).unwrap()).map_err(|error| format!("{error:#}"))
    };
    let (token, log) = at_the_machine(&house).await;
    let task = Task { deed: Deed::SetPin, token: token.info().serial };
    let (folder, origin) = (house.folder().to_owned(), log.opening().origin.clone());
    let before = log.status().head.size;
    leave(token, log).await;
    let mut desk = Desk { folder, log: origin, nonce: 0 };
    let mut by = || ["ada", "eve"].map(|name| desk.file(name, &task, |_| {}));

    // A file beside the PIN's is no change of it.
    fs::copy(&pin, &beside).unwrap();
    let said = set(true, &[]).await.unwrap();
    assert!(said.contains("no change of it is open"), "{said}");
    // Used up by the try, before the token says whether it takes it.
    write_pin(&given, "1");
    let no = set(false, &by()).await.unwrap_err();
    assert!(no.contains("new PIN"), "{no}");
    write_pin(&given, "changed-by-officers");
    let no = set(false, &[]).await.unwrap_err();
    assert!(no.contains("2 of board"), "{no}");
    let said = set(false, &by()).await.unwrap();
    assert!(said.contains("the token has the new PIN"), "{said}");
    assert_eq!(fs::read_to_string(&pin).unwrap(), "changed-by-officers");
    assert!(!beside.exists());

    // Cut off when the token had changed it: nobody is asked again, and it is written down once.
    let (token, log) = at_the_machine(&house).await;
    let (what, serial) = ("set-pin".to_owned(), task.token.clone());
    let event = Event::Administered { what, serial, site: [0; 16] };
    log.commit(|_| Step::write(vec![event], ())).await.unwrap();
    leave(token, log).await;
    for open in [true, false] {
        fs::copy(&pin, &beside).unwrap();
        let said = set(true, &[]).await.unwrap();
        assert_eq!(said.contains("the token has the new PIN"), open, "{said}");
    }

    let (token, log) = at_the_machine(&house).await;
    let mut told = Vec::new();
    for seq in before..log.status().head.size {
        match log.entry(seq).await.unwrap().event {
            Event::Administered { what, .. } => told.push(what),
            Event::PinChanged { .. } => told.push("changed".to_owned()),
            _ => {}
        }
    }
    let each = ["set-pin", "set-pin failed", "set-pin", "changed", "set-pin", "changed"];
    assert_eq!(told, each);
    leave(token, log).await;
}

#[tokio::test]
async fn keys_are_made_and_used_again_only_by_their_officers_and_stopped_by_anybody() {
    let mut house = house().await;
    house.open().await;
    house.close().await;
    let (token, log) = at_the_machine(&house).await;
    let serial = token.info().serial;
    let (folder, origin) = (house.folder().to_owned(), log.opening().origin.clone());
    let mut desk = Desk { folder, log: origin, nonce: 0 };
    let (clock, rules) = (Clock::system(), house.config.rules().unwrap());
    let kin = log.read(|ledger| Kin::read(ledger, &house.config.state_dir));
    let task = |deed| Task { deed, token: serial.clone() };
    let asked = async |tasks: &[Task], files: &[PathBuf]| {
        let done = administer::each_by_quorum(&log, &house.config, &clock, tasks, files).await;
        done.map_err(|error| format!("{error:#}"))
    };
    let hot = WalletName::parse("hot").unwrap();
    let set = async |state| {
        keys::set_state(&log, &rules, &kin, &hot, state, "a test").await.unwrap();
    };
    // Stopping asks nobody; and what is active needs nobody to be so.
    assert!(log.read(|ledger| kin.not_active(ledger, &hot)).is_empty());
    asked(&[], &[]).await.unwrap();
    set(KeyState::Suspended).await;
    assert_eq!(log.read(|ledger| kin.not_active(ledger, &hot)), std::slice::from_ref(&hot));
    let again = task(Deed::ActivateKeys(hot.clone()));
    let none = asked(std::slice::from_ref(&again), &[]).await.unwrap_err();
    assert!(none.contains("2 of board") && none.contains("key-activate hot"), "{none}");
    // For another wallet it is for nothing here; for another token it does not count.
    let deposits = task(Deed::ActivateKeys(WalletName::parse("deposits").unwrap()));
    let other = desk.file("ada", &deposits, |_| {});
    let wrong = asked(std::slice::from_ref(&again), &[other]).await.unwrap_err();
    assert!(wrong.contains("for nothing that is to be done here"), "{wrong}");
    let born = task(Deed::MakeTokenKey(KeyName::parse("co-1").unwrap()));
    let both = [again.clone(), born.clone()];
    let files: Vec<PathBuf> = ["ada", "eve"]
        .iter()
        .flat_map(|name| [desk.file(name, &again, |_| {}), desk.file(name, &born, |_| {})])
        .collect();
    let one = asked(&both, &files[..2]).await.unwrap_err();
    assert!(one.contains("[ada]"), "{one}");
    asked(&both, &files[2..]).await.unwrap();
    set(KeyState::Active).await;
    assert_eq!(log.read(|ledger| ledger.people().task(&again).len()), 0, "used up");
    assert_eq!(log.read(|ledger| ledger.people().task(&born).len()), 2, "not by another");
    set(KeyState::Suspended).await;
    let used = asked(std::slice::from_ref(&again), &files[..1]).await.unwrap_err();
    assert!(used.contains("counts once"), "{used}");
    let (settings, name) = (house.config.token.alone(), KeyName::parse("co-1").unwrap());
    let state = &house.config.state_dir;
    signer::born::generate(&log, &settings, state, &name, &mut Vec::new()).await.unwrap();
    assert_eq!(log.read(|ledger| ledger.people().task(&born).len()), 0, "used up");
    leave(token, log).await;
}

#[tokio::test]
#[allow(clippy::too_many_lines, reason = "one clearing's story")]
async fn what_no_log_can_be_opened_for_is_cleared_by_officers_all_the_same_and_once() {
    let mut house = house().await;
    house.open().await;
    let origin = house.app().log.opening().origin.clone();
    house.close().await;
    let config = house.config.clone();
    let mut desk = Desk { folder: house.folder().to_owned(), log: origin, nonce: 0 };
    let asked = |clearing, files: &[PathBuf]| {
        let allowed = by_officers(&config, clearing, files);
        allowed.map(Option::unwrap).map_err(|error| format!("{error:#}"))
    };
    let none = asked(Clearing::Pin, &[]).unwrap_err();
    assert!(none.contains("2 of board") && none.contains("administer pin-clear "), "{none}");
    let mut site = [0; 16];
    let text = fs::read_to_string(config.state_dir.join("site")).unwrap();
    hex::decode_to_slice(text.trim_end(), &mut site).unwrap();
    let of = |deed| Task { deed, token: NO_TOKEN.to_owned() };
    let (pin, token) = (of(Deed::ClearPin(site)), of(Deed::ClearToken(site)));
    let ada = desk.file("ada", &pin, |_| {});
    let one = asked(Clearing::Pin, std::slice::from_ref(&ada)).unwrap_err();
    assert!(one.contains("[ada]"), "{one}");
    let elsewhere = of(Deed::ClearPin([9; 16]));
    for (file, why) in [
        (desk.file("zoe", &pin, |_| {}), "no officer \"zoe\""),
        (desk.file("cyd", &token, |_| {}), "not for `pin-clear"),
        (desk.file("cyd", &elsewhere, |_| {}), "not for `pin-clear"),
        (desk.file("cyd", &pin, |s| s.log = "cofferdam/0000".to_owned()), "with log"),
        (desk.file("cyd", &pin, |s| s.expires_unix = 1_700_000_000), "it ended"),
        (desk.file("cyd", &pin, |s| s.expires_unix += 40 * 86_400), "31 days"),
        (desk.file("cyd", &pin, |s| s.officer = KeyName::parse("eve").unwrap()), "signature"),
    ] {
        let refused = asked(Clearing::Pin, &[ada.clone(), file]).unwrap_err();
        assert!(refused.contains(why), "{refused}");
    }
    // The last try is a deed of its own, and one officer counts once.
    let last = asked(Clearing::PinLastTry, std::slice::from_ref(&ada)).unwrap_err();
    assert!(last.contains("not for `pin-clear-last-try"), "{last}");
    let twice = [ada.clone(), desk.file("ada", &pin, |_| {})];
    let twice = asked(Clearing::Pin, &twice).unwrap_err();
    assert!(twice.contains("there twice"), "{twice}");
    // Another policy in the file asks nobody, and is not in force.
    let asks = fs::read_to_string(&config.policy).unwrap();
    let nobody =
        asks.replace("administer = \"2 of board\"\n", "").replace("version = 2", "version = 3");
    assert_ne!(nobody, asks);
    fs::write(&config.policy, nobody).unwrap();
    assert!(asked(Clearing::Pin, &[]).unwrap_err().contains("2 of board"));
    fs::write(&config.policy, asks).unwrap();
    let both = [ada, desk.file("cyd", &pin, |_| {})];
    let allowed = asked(Clearing::Pin, &both).unwrap();
    signer::init::clear_pin_by(&config.state_dir, false, Some(&allowed), &mut Vec::new()).unwrap();
    // Used up at once, before any log has it.
    let again = asked(Clearing::Pin, &both).unwrap_err();
    assert!(again.contains("counts once"), "{again}");
    // Beside it, what was cleared while statements held that have ended since, and one that never did.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let told = fs::read_to_string(config.state_dir.join("told")).unwrap();
    let keys: Vec<&str> =
        told.split_whitespace().filter_map(|word| Some(word.split_once(':')?.0)).collect();
    let mut ended = |officer: &str, key: &str| {
        let file = desk.file(officer, &pin, |s| s.expires_unix = now - 10);
        format!(" {key}:{}", hex::encode(fs::read(file).unwrap()))
    };
    let words = [ended("ada", keys[0]), ended("cyd", keys[1]), ended("eve", keys[0])].concat();
    let line = format!("by officers\tpin-clear {} {}{words}\n", text.trim_end(), now - 60);
    fs::write(config.state_dir.join("told"), told.clone() + &line).unwrap();
    // Whoever opens the log next writes it down. What counted before, here of a copy that forgot, is written as what it is.
    house.open().await;
    let written = house.entries(0).await;
    let done = |event: &Event| {
        matches!(
            event,
            Event::Administered { what, site: at, .. } if what == "pin-clear" && *at == site
        )
    };
    assert_eq!(written.iter().filter(|entry| done(&entry.event)).count(), 2);
    let at = written.iter().position(|entry| done(&entry.event)).unwrap();
    let words = written[at - 2..at].iter();
    assert!(words.into_iter().all(|entry| matches!(entry.event, Event::OfficerSaid { .. })));
    assert_eq!(house.app().log.read(|ledger| ledger.people().task(&pin).len()), 0);
    let waived = |entry: &audit::entry::Entry| matches!(&entry.event, Event::Waived { safeguard, .. } if safeguard == "PIN latch");
    assert!(!written[at..].iter().any(waived));
    house.close().await;
    fs::remove_file(config.state_dir.join("cleared")).unwrap();
    let copied = asked(Clearing::Pin, &both).unwrap();
    signer::init::clear_pin_by(&config.state_dir, false, Some(&copied), &mut Vec::new()).unwrap();
    house.open().await;
    let later = house.entries(u64::try_from(written.len()).unwrap()).await;
    assert!(!later.iter().any(|entry| done(&entry.event)));
    assert!(later.iter().any(|entry| matches!(
        &entry.event,
        Event::Waived { safeguard, said } if safeguard == "PIN latch" && said.contains("ada, cyd")
    )));
    // What nobody asked officers for is called so.
    house.close().await;
    signer::init::clear_pin(&config.state_dir, false, &mut Vec::new()).unwrap();
    house.open().await;
    let last = house.entries(u64::try_from(written.len() + later.len()).unwrap()).await;
    assert!(last.iter().any(|entry| matches!(
        &entry.event,
        Event::Waived { said, .. } if said.contains("without the officers")
    )));
    house.close().await;
}

/// Whoever opens the log writes it down and is killed before the state folder hears of it, at every step of that.
#[tokio::test]
async fn a_clearing_that_is_cut_off_while_it_is_written_down_stands_in_the_log_once() {
    let mut house = house().await;
    house.open().await;
    let origin = house.app().log.opening().origin.clone();
    house.close().await;
    let config = house.config.clone();
    let mut desk = Desk { folder: house.folder().to_owned(), log: origin, nonce: 0 };
    let mut site = [0; 16];
    let text = fs::read_to_string(config.state_dir.join("site")).unwrap();
    hex::decode_to_slice(text.trim_end(), &mut site).unwrap();
    let pin = Task { deed: Deed::ClearPin(site), token: NO_TOKEN.to_owned() };
    let told = config.state_dir.join("told");
    let mut clear = || {
        let both = [desk.file("ada", &pin, |_| {}), desk.file("cyd", &pin, |_| {})];
        let allowed = by_officers(&config, Clearing::Pin, &both).unwrap().unwrap();
        signer::init::clear_pin_by(&config.state_dir, false, Some(&allowed), &mut Vec::new())
            .unwrap();
    };
    // The first of two is in the log, and the folder does not know.
    let (token, log) = at_the_machine(&house).await;
    clear();
    let before = fs::read_to_string(&told).unwrap();
    assert!(note_told(&log, &config).await.unwrap());
    leave(token, log).await;
    let cut_off = fs::read_to_string(&told).unwrap();
    assert_ne!(cut_off, before, "it says that it is being written");
    clear();
    house.open().await;
    let written = cleared(&house).await;
    assert_eq!(written, [true, true], "each once, and as what officers let be done");
    house.close().await;
    assert!(!told.exists());
    // The mark alone, of one that never came into the log, takes nothing away.
    clear();
    let begun = fs::read_to_string(&told).unwrap().replacen(
        "by officers\t",
        "by officers, being written\t",
        1,
    );
    fs::write(&told, begun).unwrap();
    house.open().await;
    assert_eq!(cleared(&house).await, [true; 3]);
    house.close().await;
    // What nobody was about to write down and counted before is written as what it is.
    fs::write(&told, before).unwrap();
    house.open().await;
    assert_eq!(cleared(&house).await, [true, true, true, false]);
    house.close().await;
}

/// What the log says of the PIN latch, in order: whether officers let it be cleared.
async fn cleared(house: &House) -> Vec<bool> {
    let told = |entry: &audit::entry::Entry| match &entry.event {
        Event::Administered { what, .. } if what == "pin-clear" => Some(true),
        Event::Waived { safeguard, .. } if safeguard == "PIN latch" => Some(false),
        _ => None,
    };
    house.entries(0).await.iter().filter_map(told).collect()
}
