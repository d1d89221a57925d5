//! Two real tokens with the same keys behind one confined signer: a starter and workers for each, one doing the
//! other's work, and what operators run knowing both. On SoftHSM a copy of the token's folder stands for the vendor's
//! cloning.

use std::fs;
use std::path::Path;
use std::process::Command;

use bitcoin::Transaction;
use devnet::stack::{Children, Options};
use devnet::{Stack, load, wait};
use proto::StatusRequest;
use tonic::codegen::tokio_stream;

use crate::operating::{dump, signer, write_pin};
use crate::process::confined;

const NEW_PIN: &str = "the standby's own 1357";

/// Copies the token and names the copy as a standby.
fn clone_token(stack: &Stack) {
    let (from, to) = (stack.dir().join("token"), stack.dir().join("second"));
    copy(&from, &to);
    let moved = |text: &str| text.replace(from.to_str().unwrap(), to.to_str().unwrap());
    let conf = to.join("softhsm2.conf");
    fs::write(&conf, moved(&fs::read_to_string(&conf).unwrap())).unwrap();
    let text = fs::read_to_string(stack.signer.config()).unwrap();
    let mut config: toml::Table = text.parse().unwrap();
    let token = config.get_mut("token").unwrap().as_table_mut().unwrap();
    token.insert("workers".into(), 1.into());
    let second: toml::Table = moved(&token.to_string()).parse().unwrap();
    let standby = toml::Table::from_iter([("second".to_owned(), second.into())]);
    token.insert("standby".into(), standby.into());
    fs::write(stack.signer.config(), config.to_string()).unwrap();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

/// The signer's processes for the token in this folder: its starters, then its workers.
fn processes(stack: &Stack, folder: &str) -> [Vec<u32>; 2] {
    let pin = stack.dir().join(folder).join("user.pin");
    let mut found = [Vec::new(), Vec::new()];
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let read = |file: &str| fs::read_to_string(entry.path().join(file)).unwrap_or_default();
        let Ok(pid) = entry.file_name().to_str().unwrap_or_default().parse::<u32>() else {
            continue;
        };
        let ours = read("cmdline").split('\0').any(|argument| Path::new(argument) == pin);
        match (ours, read("comm").trim_end()) {
            (true, "token-starter") => found[0].push(pid),
            (true, "token-worker") => found[1].push(pid),
            _ => {}
        }
    }
    found
}

async fn sweep(stack: &Stack, round: u32) {
    let coins = load::coins(&stack.descriptors().deposits, round, 12, 4, 2).unwrap();
    let psbt = load::sweep(stack.descriptors(), &coins, 2).unwrap();
    let parts = load::stream(&format!("standby-{round}"), "deposits", &psbt, &coins);
    let mut client = stack.signer_as("watcher-1").unwrap();
    let reply = client.sign(tokio_stream::iter(parts)).await.unwrap().into_inner();
    let signed: Transaction = bitcoin::consensus::deserialize(&reply.transaction).unwrap();
    assert!(signed.input.iter().all(|input| input.witness.len() == 2) && signed.input.len() == 12);
}

/// Until what the signer says of its tokens is so.
async fn until_said(stack: &Stack, what: &str, good: impl Fn(&str) -> bool) {
    let client = stack.signer_as("watcher-1").unwrap();
    wait::until(what, devnet::stack::READY_DEADLINE, || {
        let (mut client, good) = (client.clone(), &good);
        async move {
            let status = client.status(StatusRequest {}).await?.into_inner();
            Ok((status.token_ready && good(&status.token_problem)).then_some(()))
        }
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confined_signer_goes_on_with_the_second_of_two_tokens_when_the_first_is_gone() {
    let options = Options { children: Children { external: 4, change: 1 }, ..Options::default() };
    let mut stack = Stack::start_without_watcher(options).await.unwrap();
    stack.signer.stop().unwrap();
    clone_token(&stack);
    operators_see_both(&stack);

    stack.start_signer().await.unwrap();
    until_said(&stack, "both tokens to work", str::is_empty).await;
    for folder in ["token", "second"] {
        let [starters, workers] = processes(&stack, folder);
        // One does everything, and one signs statements.
        assert_eq!((starters.len(), workers.len()), (1, 2), "{folder}");
        workers.into_iter().for_each(confined);
    }
    confined(stack.signer.id().unwrap());
    sweep(&stack, 1).await;

    let (here, away) = (stack.dir().join("token/tokens"), stack.dir().join("token/away"));
    fs::rename(&here, &away).unwrap();
    let [_, workers] = processes(&stack, "token");
    for pid in workers {
        let kill = format!("kill -KILL {pid}"); // the shell's own: a fresh machine has no other
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }
    for round in 2..6 {
        sweep(&stack, round).await;
    }
    until_said(&stack, "it to be said", |problem| !problem.is_empty()).await;
    fs::rename(&away, &here).unwrap();
    until_said(&stack, "the first to come back", str::is_empty).await;
    // The one that signs statements may come back after the one that does everything.
    let workers = wait::until("both workers", devnet::stack::READY_DEADLINE, || async {
        let [starters, workers] = processes(&stack, "token");
        Ok((starters.len() == 1 && workers.len() == 2).then_some(workers))
    });
    workers.await.unwrap().into_iter().for_each(confined);
    sweep(&stack, 6).await;
    stack.signer.stop().unwrap();
    let log = dump(&stack);
    assert!(log.contains("PIN changed") && log.contains("PIN latch, by signer pin clear"), "{log}");
}

/// The doctor looks at both, and the standby's PIN is changed and its latch cleared like the first one's.
fn operators_see_both(stack: &Stack) {
    let (code, said) = signer(stack, &["doctor"]);
    assert_eq!(code, 1, "{said}");
    for wanted in ["each attribute as it must be", "no login was refused", "token-hd: yes"] {
        let lines = said.lines().filter(|line| line.contains(wanted));
        let (standby, first): (Vec<_>, Vec<_>) =
            lines.partition(|line| line.contains("standby second: "));
        assert_eq!((first.len(), standby.len()), (1, 1), "{wanted}: {said}");
    }

    let given = stack.dir().join("given");
    write_pin(&given, NEW_PIN);
    let given = given.to_str().unwrap();
    let (code, said) = signer(stack, &["set-pin", "--token", "third", "--new-pin-file", given]);
    assert!(code != 0 && said.contains("no standby \"third\""), "{said}");
    let (code, said) = signer(stack, &["set-pin", "--token", "second", "--new-pin-file", given]);
    assert!(code == 0 && said.contains("the token has the new PIN"), "{said}");
    let pin = |folder: &str| fs::read_to_string(stack.dir().join(folder).join("user.pin")).unwrap();
    assert_eq!(pin("second"), NEW_PIN);
    assert_ne!(pin("token"), NEW_PIN);

    // A refused PIN of the standby alone: the doctor names it, and nobody tries it.
    let latch = stack.dir().join("signer/state/standby/second/pin-refused");
    fs::write(&latch, "it was refused").unwrap();
    let (code, said) = signer(stack, &["doctor"]);
    assert!(code == 2 && said.contains("standby second: not tried any more"), "{code}: {said}");
    let (code, said) = signer(stack, &["pin", "clear"]);
    assert!(code == 0 && said.contains("cleared") && !latch.exists(), "{said}");
    let (code, said) = signer(stack, &["doctor"]);
    assert_eq!(code, 1, "{said}");
}
