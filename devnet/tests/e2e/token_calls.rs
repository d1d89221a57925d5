//! Kill -9 of the signer at a call of its token: every call that a small sweep makes of the module, one after the other, from
//! the first unwrapping to the last checkpoint. Nothing is signed that the log does not have, nothing counts twice, and a retry
//! gets the one transaction. A limit holds exactly what all of them come to: had one death made something count twice, the last
//! would not fit, and had one been forgotten, one more would.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bitcoin::hashes::Hash as _;
use bitcoin::sighash::SighashCache;
use bitcoin::{EcdsaSighashType, Psbt, ScriptBuf, Transaction};
use devnet::forge::Coin;
use devnet::programs::Programs;
use devnet::stack::{Children, Options};
use devnet::wait::until;
use devnet::{Stack, load};
use proto::{SignReply, SignRequest};
use tonic::codegen::tokio_stream;

use crate::moved::moved;

const PATIENCE: Duration = Duration::from_secs(120);
/// A sweep of one coin makes fewer calls than that, with the checkpoints before and after.
const CALLS_MAX: usize = 60;
/// One for each call, and the one that nothing happens to.
const SWEEPS: u32 = 9;

#[tokio::test(flavor = "multi_thread")]
async fn the_signer_is_killed_at_each_call_of_the_token_on_sqlite() {
    killed_at_each_call(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_signer_is_killed_at_each_call_of_the_token_on_postgres() {
    killed_at_each_call(true).await;
}

async fn killed_at_each_call(on_postgres: bool) {
    let children = Children { external: 10, change: 1 };
    let options = Options { children, ..Options::default() };
    let mut stack = Stack::start_without_watcher(options).await.unwrap();
    stack.signer.stop().unwrap();
    let mut database = stack.dir().join("signer/state/log.sqlite").display().to_string();
    if on_postgres {
        database = moved(Path::new(&database)).await;
        fs::remove_file(stack.dir().join("signer/state/log.sqlite")).unwrap();
        let settings = fs::read_to_string(stack.signer.config()).unwrap();
        fs::write(stack.signer.config(), format!("database = {database:?}\n{settings}")).unwrap();
    } else {
        database.insert_str(0, "sqlite:");
    }
    limit(&stack);
    let faulty = Faulty::put_into(&stack);
    stack.start_signer().await.unwrap();
    let mut died = Vec::new();
    // Until one finds nothing to do: the sweep was answered before that call.
    while let Some(call) = one(&mut stack, &faulty, died.len()).await {
        died.push(call);
        assert!(died.len() < CALLS_MAX, "more calls than a sweep can need: {died:?}");
    }
    println!("crash points: the signer died at {} calls of its token: {died:?}", died.len());
    for call in ["C_UnwrapKey", "C_Sign", "C_DestroyObject"] {
        assert!(died.iter().any(|died| died.starts_with(call)), "{call}: {died:?}");
    }
    assert_eq!(u32::try_from(died.len()).unwrap() + 1, SWEEPS, "{died:?}");
    let (coins, psbt) = sweep(&stack, SWEEPS);
    let one_more = ask(&stack, load::stream("one-more", "deposits", &psbt, &coins)).await;
    assert_eq!(one_more.unwrap_err().code(), tonic::Code::PermissionDenied);
    check(&mut stack, &database).await;
}

/// The sweep of this number: of one coin.
fn sweep(stack: &Stack, number: u32) -> (Vec<Coin>, Psbt) {
    let coins = load::coins(&stack.descriptors().deposits, number, 1, 10, 2).unwrap();
    let psbt = load::sweep(stack.descriptors(), &coins, 2).unwrap();
    (coins, psbt)
}

/// The next version of the policy: of all that leaves, fees alone here, and of how many transactions, no more than the sweeps
/// come to.
fn limit(stack: &Stack) {
    let fee = sweep(stack, 0).1.fee().unwrap().to_sat() * u64::from(SWEEPS);
    let rule = format!(
        "[[limit]]\nname = \"edge\"\nby = \"lane\"\nlanes = [\"sweep\"]\nwindow = \"1d\"\nsum = \"{fee} sat\"\ncount = {SWEEPS}\n"
    );
    let file = stack.dir().join("signer/policy.toml");
    let text = fs::read_to_string(&file).unwrap().replacen("version = 1", "version = 2", 1);
    fs::write(&file, text + "\n" + &rule).unwrap();
    let key = stack.dir().join("officer/alice.key");
    let (file, key) = (file.to_str().unwrap(), key.to_str().unwrap());
    stack.run("officer", &["policy", "sign", file, "--key", key, "--yes"]).unwrap();
}

/// The signer dies while its token works on this call of the sweep, which is then asked for again; the call's name, or none when
/// the sweep needs fewer.
async fn one(stack: &mut Stack, faulty: &Faulty, number: usize) -> Option<String> {
    let call = number + 1;
    let round = u32::try_from(number).unwrap();
    let (coins, psbt) = sweep(stack, round);
    let request = load::stream(&format!("call-{call}"), "deposits", &psbt, &coins);
    faulty.rule(&format!("* #{call} hang\n"));
    let before = faulty.happened().len();
    let asking = tokio::spawn(ask(stack, request.clone()));
    let met = until("the call or the answer", PATIENCE, || async {
        let met = faulty.happened().len() > before;
        Ok((met || asking.is_finished()).then_some(met))
    });
    let met = met.await.unwrap();
    if met {
        stack.signer.kill().unwrap();
        let _ = asking.await.unwrap();
        faulty.kill_workers();
        faulty.rule("");
        stack.start_signer().await.unwrap();
    } else {
        faulty.rule("");
        asking.await.unwrap().unwrap();
    }
    // Whatever was left, the same request gets one answer, and from then on that one.
    let first =
        until("the answer", PATIENCE, || async { Ok(Some(ask(stack, request.clone()).await?)) });
    let first = first.await.unwrap();
    let again = ask(stack, request).await.unwrap();
    assert!(again.stored && again.transaction == first.transaction, "call {call}");
    let signed: Transaction = bitcoin::consensus::deserialize(&first.transaction).unwrap();
    assert_eq!(signed.compute_txid(), psbt.unsigned_tx.compute_txid());
    verify(&signed, &coins[0]);
    met.then(|| faulty.happened().pop().unwrap_or_default())
}

/// The one input's signature holds, by none of the signer's code.
fn verify(signed: &Transaction, coin: &Coin) {
    let spent = coin.paid().unwrap();
    let witness = &signed.input[0].witness;
    let key = secp256k1::PublicKey::from_slice(&witness[1]).unwrap();
    let (kind, der) = witness[0].split_last().unwrap();
    assert_eq!(*kind, 1);
    let signature = secp256k1::ecdsa::Signature::from_der(der).unwrap();
    let mut cache = SighashCache::new(signed);
    let digest = cache
        .p2wpkh_signature_hash(0, &spent.script_pubkey, spent.value, EcdsaSighashType::All)
        .unwrap();
    let message = secp256k1::Message::from_digest(digest.to_byte_array());
    secp256k1::SECP256K1.verify_ecdsa(&message, &signature, &key).unwrap();
    let compressed = bitcoin::CompressedPublicKey::from_slice(&witness[1]).unwrap();
    assert_eq!(ScriptBuf::new_p2wpkh(&compressed.wpubkey_hash()), spent.script_pubkey);
}

fn ask(
    stack: &Stack,
    request: Vec<SignRequest>,
) -> impl Future<Output = Result<SignReply, tonic::Status>> + Send + 'static {
    let client = stack.signer_as("watcher-1");
    async move {
        let mut client = client.map_err(|error| tonic::Status::internal(error.to_string()))?;
        client.sign(tokio_stream::iter(request)).await.map(tonic::Response::into_inner)
    }
}

/// The whole log holds, each of the sweeps was allowed once and answered once, and one more was too many.
async fn check(stack: &mut Stack, database: &str) {
    let status = stack.signer_as("watcher-1").unwrap().status(proto::StatusRequest {}).await;
    let key = hex(&status.unwrap().into_inner().checkpoint_key);
    stack.signer.stop().unwrap();
    let verified = ["log", "verify", "--key", &key, "--database", database];
    let said = stack.run("officer", &verified).unwrap();
    println!("{said}");
    let show = ["log", "show", "--key", &key, "--database", database, "--json"];
    let shown = stack.run("officer", &show).unwrap();
    let count = |kind: &str| shown.matches(&format!("\"kind\":\"{kind}\"")).count();
    let sweeps = usize::try_from(SWEEPS).unwrap();
    assert_eq!((count("spend"), count("signed")), (sweeps, sweeps), "{shown}");
    assert_eq!(count("denied"), 1, "{shown}");
    for code in ["limit-sum", "limit-count"] {
        assert!(shown.contains(code), "{code}: {shown}");
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The stack's token behind the module that fails by rules.
struct Faulty {
    folder: PathBuf,
    whose: String,
}

impl Faulty {
    /// With one worker, so that each of its calls has a number.
    fn put_into(stack: &Stack) -> Self {
        let folder = stack.dir().join("failing");
        fs::create_dir(&folder).unwrap();
        let module = Programs::find().unwrap().faulty_module().unwrap();
        let text = fs::read_to_string(stack.signer.config()).unwrap();
        let mut real = String::new();
        let mut lines: Vec<String> = Vec::new();
        for line in text.lines() {
            if let Some(softhsm) = line.strip_prefix("module = ") {
                softhsm.clone_into(&mut real);
                let alone = "workers = 1\nstatement_worker = false";
                lines.push(format!("module = {module:?}\n{alone}"));
            } else if let Some(env) = line.strip_prefix("env = {") {
                let ours = format!("FAULTY_MODULE = {real}, FAULTY_DIR = {folder:?}");
                lines.push(format!("env = {{ {ours}, {env}"));
            } else {
                lines.push(line.to_owned());
            }
        }
        fs::write(stack.signer.config(), lines.join("\n") + "\n").unwrap();
        Self { folder, whose: stack.dir().to_str().unwrap().to_owned() }
    }

    fn rule(&self, text: &str) {
        let aside = self.folder.join("rules-next");
        fs::write(&aside, text).unwrap();
        fs::rename(aside, self.folder.join("rules")).unwrap();
    }

    fn happened(&self) -> Vec<String> {
        let noted = fs::read_to_string(self.folder.join("faults")).unwrap_or_default();
        noted.lines().map(str::to_owned).collect()
    }

    /// One that hangs in the module does not notice that its signer is gone.
    fn kill_workers(&self) {
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            let program = line.split('\0').next().unwrap_or_default();
            if program.ends_with("/token-worker") && line.contains(&self.whose) {
                let pid = entry.file_name().into_string().unwrap();
                let _ = Command::new("kill").args(["-KILL", &pid]).status();
            }
        }
    }
}
