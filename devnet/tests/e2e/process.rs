//! The signer's process from outside and from inside: no secret in its memory after a thousand signatures, nobody of
//! the same user may look in, and nothing leads out of its sandbox.

use std::fs;
use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::str::FromStr as _;
use std::time::{Duration, Instant};

use bitcoin::absolute::LockTime;
use bitcoin::bip32::{ChildNumber, DerivationPath, Xpriv};
use bitcoin::secp256k1::SECP256K1;
use bitcoin::sighash::Prevouts;
use bitcoin::transaction::Version;
use bitcoin::{Amount, NetworkKind, OutPoint, Sequence, Transaction, TxIn, TxOut, Witness};
use confine::Mode;
use devnet::Stack;
use devnet::forge::{self, Coin, Output};
use devnet::programs::Programs;
use devnet::stack::{Children, Options};
use miniscript::interpreter::Interpreter;
use signer::config::Config;
use signer::sandbox::{self, Needs};
use tonic::codegen::tokio_stream;

#[path = "../../../signer/token-worker/tests/support/memory.rs"]
mod memory;
use memory::Needles;

const EXTERNAL: u32 = 50;
const VALUE: Amount = Amount::from_sat(100_000);

#[tokio::test(flavor = "multi_thread")]
async fn after_a_thousand_inputs_no_key_pin_or_seed_is_in_the_signers_memory() {
    let children = Children { external: EXTERNAL, change: 5 };
    let options = Options { children, ..Options::default() };
    let stack = Stack::start_without_watcher(options).await.unwrap();
    let mut secrets = Needles::default();
    let seed = seed(&[stack.share("deposits", 1), stack.share("deposits", 2)]);
    add_keys(&mut secrets, &seed);
    let pin = fs::read_to_string(stack.dir().join("token/user.pin")).unwrap();
    let pin = pin.trim_end();
    secrets.add("PIN", pin.as_bytes());
    // What must be found, or the scan is blind: the policy's text, and a value that only a request brought.
    let mut planted = Needles::default();
    planted.add("planted", b"planted-3f1c8a77d2e94b06");
    let policy = fs::read(stack.dir().join("signer/policy.toml")).unwrap();
    planted.add("policy", &policy[policy.len() - 60..]);

    for (round, key) in ["planted-3f1c8a77d2e94b06", "second"].into_iter().enumerate() {
        sign_five_hundred(&stack, u8::try_from(round).unwrap(), key).await;
    }
    let signer = stack.signer.id().unwrap();
    let found = planted.scan(signer);
    for name in ["planted", "policy"] {
        assert!(found.iter().any(|hit| hit.name == name), "the scan does not find {name}");
    }
    assert_eq!(secrets.scan(signer), [], "secrets in the signer's memory");

    // SoftHSM holds a child while it signs with it, and the freed memory may show one for a while. The PIN is wiped
    // after the login, and neither seed nor account were ever there.
    let workers = stack.signer.workers().unwrap();
    assert!(!workers.is_empty());
    // What every worker was told in clear: the module's path.
    let mut told = Needles::default();
    told.add("module", module(&stack).as_bytes());
    for worker in workers {
        assert!(!told.scan(worker).is_empty(), "the scan of a worker is blind");
        let hits = secrets.scan(worker);
        assert!(hits.iter().all(|hit| hit.name == "child"), "{hits:?}");
        confined(worker);
    }
    confined(signer);
    let log = fs::read_to_string(stack.signer.log()).unwrap();
    assert!(!log.contains(pin), "the PIN is in the signer's log");
    assert!(!log.contains("not confined"), "{log}");
    assert_eq!(secrets.names_in(log.as_bytes()), [""; 0], "secrets in the signer's log");
    assert!(log.contains("serving"), "the look into the log is blind: {log}");
}

/// The PKCS#11 module that the signer's settings name.
fn module(stack: &Stack) -> String {
    let text = fs::read_to_string(stack.signer.config()).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("module = ")).unwrap();
    line.trim_matches('"').to_owned()
}

/// The kernel's own word on a process.
pub(crate) fn confined(pid: u32) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_start_matches(':').trim().to_owned()
    };
    let said = [field("NoNewPrivs"), field("Seccomp"), field("Seccomp_filters")];
    assert_eq!(said, ["1".to_owned(), "2".to_owned(), filters_once_confined()], "{pid}");
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
}

/// The sandbox's two, beside those that everything here was started under, as in a container.
fn filters_once_confined() -> String {
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let inherited = own.lines().find_map(|line| line.strip_prefix("Seccomp_filters:")).unwrap();
    (inherited.trim().parse::<u32>().unwrap() + 2).to_string()
}

fn seed(shares: &[PathBuf]) -> Vec<u8> {
    let mut recovery = slip39::Recovery::new();
    for share in shares {
        let words = fs::read_to_string(share).unwrap();
        recovery.add(slip39::Mnemonic::parse(words.trim()).unwrap()).unwrap();
    }
    recovery.recover(&slip39::Passphrase::none()).unwrap().to_vec()
}

/// Seed, master and account key, and every child.
fn add_keys(secrets: &mut Needles, seed: &[u8]) {
    secrets.add("seed", seed);
    let master = Xpriv::new_master(NetworkKind::Test, seed).unwrap();
    secrets.add("master key", &master.private_key.secret_bytes());
    secrets.add_text("master xprv", master.to_string().as_bytes());
    let path = DerivationPath::from_str("m/84h/1h/0h").unwrap();
    let account = master.derive_priv(SECP256K1, &path).unwrap();
    secrets.add("account key", &account.private_key.secret_bytes());
    secrets.add_text("account xprv", account.to_string().as_bytes());
    for (branch, count) in [(0, EXTERNAL), (1, 5)] {
        for index in 0..count {
            let path = [branch, index].map(|n| ChildNumber::from_normal_idx(n).unwrap());
            let child = account.derive_priv(SECP256K1, &path).unwrap();
            secrets.add("child", &child.private_key.secret_bytes());
        }
    }
}

/// A sweep of 500 coins, ten on each address.
async fn sign_five_hundred(stack: &Stack, round: u8, key: &str) {
    let descriptors = stack.descriptors();
    let script =
        |at: u32| forge::address(&descriptors.deposits, 0, at % EXTERNAL).unwrap().script_pubkey();
    let paid = |at| TxOut { value: VALUE, script_pubkey: script(at) };
    let from = TxIn {
        previous_output: OutPoint::new(
            bitcoin::Txid::from_str(&format!("{round:064x}")).unwrap(),
            1,
        ),
        sequence: Sequence::MAX,
        witness: Witness::from_slice(&[[1; 72]]),
        ..TxIn::default()
    };
    let parent = Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![from],
        output: (0..500).map(paid).collect(),
    };
    let coin =
        |output| Coin { parent: parent.clone(), output, branch: 0, index: output % EXTERNAL };
    let coins: Vec<Coin> = (0..500).map(coin).collect();
    let to_cold = VALUE * 500 - Amount::from_sat(60_000);
    let output = Output::ours(&descriptors.cold, 0, u32::from(round), to_cold).unwrap();
    let psbt = forge::psbt(&descriptors.deposits, &coins, &[output]).unwrap();
    let request = forge::request(key, "sweep", "deposits", &psbt, &coins, Vec::new());
    let mut signer = stack.signer_as("watcher-1").unwrap();
    let reply = signer.sign(tokio_stream::iter(request)).await.unwrap().into_inner();
    let signed: Transaction = bitcoin::consensus::deserialize(&reply.transaction).unwrap();
    assert!(signed.input.iter().all(|input| input.witness.len() == 2));
    judge(&signed, &(0..500).map(paid).collect::<Vec<_>>());
}

/// Every input by miniscript's interpreter, which has none of the signer's code.
fn judge(transaction: &Transaction, spent: &[TxOut]) {
    for (position, input) in transaction.input.iter().enumerate() {
        let judge = Interpreter::from_txdata(
            &spent[position].script_pubkey,
            &input.script_sig,
            &input.witness,
            input.sequence,
            transaction.lock_time,
        );
        let judge = judge.unwrap();
        let met: Vec<_> =
            judge.iter(SECP256K1, transaction, position, &Prevouts::All(spent)).collect();
        assert!(!met.is_empty() && met.iter().all(Result::is_ok), "input {position}: {met:?}");
    }
}

/// Run again by the test below as a process of its own, which goes into the signer's sandbox and tries to get out.
/// Without being asked for, it has nothing to do.
#[test]
fn probe() {
    let Some(folder) = std::env::var_os("COFFERDAM_PROBE") else { return };
    let folder = Path::new(&folder);
    let file = folder.join("signer.toml");
    let mut config = Config::load(&file).unwrap();
    if let Ok(database) = std::env::var("COFFERDAM_PROBE_DATABASE") {
        config.database = Some(database);
    }
    let port = std::env::var("COFFERDAM_PROBE_PORT").unwrap().parse::<u16>().unwrap();
    let victim = std::env::var("COFFERDAM_PROBE_VICTIM").unwrap().parse::<i32>().unwrap();
    fs::create_dir_all(&config.state_dir).unwrap();
    for control in ["/etc/passwd", "/usr/bin/env"] {
        fs::File::open(control).expect("everybody can read it otherwise");
    }
    let needs = Needs { listens: true, ..Needs::default() };
    let allowed = sandbox::confinement(&config, &file, needs);
    allowed.enforce(Mode::Required).unwrap();

    let denied = ErrorKind::PermissionDenied;
    for secret in ["/etc/shadow", "/etc/passwd", "/root", "/proc/1/environ", "/usr/bin/env"] {
        assert_eq!(fs::File::open(secret).unwrap_err().kind(), denied, "{secret}");
    }
    assert_eq!(fs::write(folder.join("elsewhere"), b"x").unwrap_err().kind(), denied);
    assert_eq!(fs::write(&file, b"x").unwrap_err().kind(), denied);
    let refused = TcpStream::connect(("127.0.0.1", port)).unwrap_err();
    assert_eq!(refused.kind(), denied);
    // A PostgreSQL over TCP is reached at its own port; landlock refuses any other (EACCES).
    if let Ok(open) = std::env::var("COFFERDAM_PROBE_OPEN") {
        TcpStream::connect(("127.0.0.1", open.parse::<u16>().unwrap())).unwrap();
        let errno = nix::errno::Errno::from_raw(refused.raw_os_error().unwrap());
        assert_eq!(errno, nix::errno::Errno::EACCES);
    }
    let socket = folder.join("socket");
    let unix = UnixStream::connect(&socket);
    // A PostgreSQL of this machine is reached by such a socket; with SQLite there is none to reach.
    assert_eq!(unix.is_ok(), config.database.is_some(), "{unix:?}");
    assert_eq!(std::net::UdpSocket::bind("127.0.0.1:0").unwrap_err().kind(), denied);
    assert_eq!(TcpListener::bind("127.0.0.1:1").unwrap_err().kind(), denied);
    // Not even of what could be executed: the call itself is refused, in a new process or in this one.
    Command::new("/bin/true").spawn().unwrap_err();
    let exec = Command::new("/bin/true").exec();
    assert_eq!(exec.kind(), denied, "{exec}");
    let perm = Err(nix::errno::Errno::EPERM);
    let victim = nix::unistd::Pid::from_raw(victim);
    assert_eq!(nix::sys::ptrace::attach(victim), perm);
    assert_eq!(nix::sys::ptrace::traceme(), perm);
    for kind in [nix::sched::CloneFlags::CLONE_NEWUSER, nix::sched::CloneFlags::CLONE_NEWNET] {
        assert_eq!(nix::sched::unshare(kind), perm);
    }
    // What it is for still works.
    fs::write(config.state_dir.join("checkpoint"), b"x").unwrap();
    fs::read(&config.policy).unwrap();
    std::thread::spawn(|| TcpListener::bind(("127.0.0.1", 0)).map(drop))
        .join()
        .unwrap()
        .unwrap_err();
    println!("nothing led out");
}

#[test]
fn nothing_leads_out_of_the_signers_sandbox() {
    let folder = tempfile::tempdir().unwrap();
    write_config(folder.path(), "module = \"m\"\nlabel = \"l\"\npin_file = \"p\"");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let _socket = UnixListener::bind(folder.path().join("socket")).unwrap();
    let database = TcpListener::bind("127.0.0.1:0").unwrap();
    let open = database.local_addr().unwrap().port();
    let by_port = format!("postgres://cofferdam@127.0.0.1:{open}/cofferdam");
    let mut victim = Command::new("sleep").arg("600").spawn().unwrap();
    for (database, open) in [
        (None, None),
        (Some("postgres://cofferdam@/cofferdam?host=/run/postgresql"), None),
        (Some(&*by_port), Some(open)),
    ] {
        let mut probe = Command::new(std::env::current_exe().unwrap());
        probe.args(["process::probe", "--exact", "--nocapture"]);
        probe.env("COFFERDAM_PROBE", folder.path());
        probe.env("COFFERDAM_PROBE_PORT", listener.local_addr().unwrap().port().to_string());
        probe.env("COFFERDAM_PROBE_VICTIM", victim.id().to_string());
        probe.envs(database.map(|database| ("COFFERDAM_PROBE_DATABASE", database)));
        probe.envs(open.map(|port| ("COFFERDAM_PROBE_OPEN", port.to_string())));
        let output = probe.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("nothing led out"), "{said}{error}");
    }
    victim.kill().unwrap();
    victim.wait().unwrap();
}

/// As whoever runs this test: root is refused unless the settings or an argument say otherwise, and nobody else is.
#[test]
fn root_is_refused_unless_somebody_said_so() {
    let folder = tempfile::tempdir().unwrap();
    write_config(folder.path(), "module = \"m\"\nlabel = \"l\"\npin_file = \"p\"");
    let config = folder.path().join("signer.toml");
    let programs = Programs::find().unwrap();
    let root = confine::process::is_root();
    let run = |mut command: Command, how: &str, refused: bool| {
        let output = command.stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        // Everything else that is missing here comes later.
        assert!(!output.status.success(), "{command:?}");
        assert_eq!(said.contains("this runs as root"), refused, "{command:?}: {said}");
        assert_eq!(said.contains(how), refused, "{command:?}: {said}");
    };
    for allowed in [false, true] {
        if allowed {
            let text = fs::read_to_string(&config).unwrap();
            fs::write(&config, format!("allow_root = true\n{text}")).unwrap();
        }
        for what in ["doctor", "serve"] {
            let mut command = programs.command("signer");
            command.arg("--config").arg(&config).arg(what);
            run(command, "allow_root = true", root && !allowed);
        }
        for starter in [&[][..], &["--starter"]] {
            let mut command = programs.command("token-worker");
            command.args([
                "--module",
                "/nowhere.so",
                "--token-label",
                "l",
                "--pin-file",
                "/nowhere",
            ]);
            command.args(starter).args(allowed.then_some("--allow-root"));
            run(command, "--allow-root", root && !allowed);
        }
    }
}

#[test]
fn a_process_of_the_same_user_cannot_look_into_signer_starter_or_worker() {
    // A place that another user can reach, as which everything runs when the test is root's.
    let folder = tempfile::tempdir().unwrap();
    let all = fs::Permissions::from_mode(0o777);
    fs::set_permissions(folder.path(), all.clone()).unwrap();
    let programs = Programs::find().unwrap();
    for name in ["signer", "token-worker"] {
        let program = programs.command(name).get_program().to_owned();
        // By another process: one of this test's, started meanwhile, would hold the file open for writing.
        let copied = Command::new("cp").arg(program).arg(folder.path().join(name)).status();
        assert!(copied.unwrap().success());
    }
    // Nobody ever answers at this socket, so the signer stays as it is while it waits.
    let socket = folder.path().join("worker.sock");
    let _listener = UnixListener::bind(&socket).unwrap();
    fs::set_permissions(&socket, all.clone()).unwrap();
    write_config(folder.path(), &format!("socket = {socket:?}"));
    fs::create_dir_all(folder.path().join("state")).unwrap();
    fs::set_permissions(folder.path().join("state"), all).unwrap();

    let mut signer = as_nobody(&folder.path().join("signer"));
    signer.arg("--config").arg(folder.path().join("signer.toml")).arg("init");
    let log = folder.path().join("log");
    signer.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(&log).unwrap());
    let mut signer = Killed(signer.spawn().unwrap());
    let mut control = Killed(as_nobody(Path::new("sleep")).arg("600").spawn().unwrap());

    // Of a worker the signer's end of the line is enough: it confines itself before it is asked anything.
    let (_line, theirs) = UnixStream::pair().unwrap();
    let mut worker = as_nobody(&folder.path().join("token-worker"));
    worker.args(["--module", "/nowhere.so", "--token-label", "l", "--pin-file", "/nowhere"]);
    worker.args(["--sandbox", "required"]).stdin(OwnedFd::from(theirs));
    let mut worker = Killed(worker.stderr(Stdio::null()).spawn().unwrap());

    let confined = format!("Seccomp_filters:\t{}\n", filters_once_confined());
    for process in [&mut signer.0, &mut worker.0] {
        let begun = Instant::now();
        while !status(process.id()).contains(&confined) {
            let log = fs::read_to_string(&log).unwrap();
            assert!(process.try_wait().unwrap().is_none(), "{log}");
            assert!(begun.elapsed() < Duration::from_secs(60), "{log}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    // It took its name, and hid its memory before that, before it answered the signer, which then confined itself.
    let starter = child_named("token-starter", signer.0.id());
    let control_pid = control.0.id();
    assert!(looked_into(control_pid), "the control must be open to its own user");
    assert_eq!(traced(control_pid), Ok(()), "the control must be traced by its own user");
    for (name, pid) in [("signer", signer.0.id()), ("starter", starter), ("worker", worker.0.id())]
    {
        assert!(!looked_into(pid), "{name}");
        let refused = traced(pid).unwrap_err();
        assert!(refused.contains("Operation not permitted"), "{name}: {refused}");
    }
    let _ = control.0.try_wait();
}

fn status(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default()
}

fn child_named(name: &str, parent: u32) -> u32 {
    let processes = fs::read_dir("/proc").unwrap();
    let ids = processes.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    let wanted = [format!("Name:\t{name}\n"), format!("PPid:\t{parent}\n")];
    ids.into_iter()
        .find(|pid| wanted.iter().all(|line| status(*pid).contains(line)))
        .unwrap_or_else(|| panic!("process {parent} has no child named {name}"))
}

/// Whether a process of the same user can open another's memory: the same question as for tracing it.
fn looked_into(pid: u32) -> bool {
    let mut look = as_nobody(Path::new("head"));
    look.args(["-c", "0", &format!("/proc/{pid}/mem")]).stderr(Stdio::piped());
    let output = look.output().unwrap();
    output.status.success()
}

/// Whether a process of the same user takes hold of another (PTRACE_SEIZE), and why not. It lets go at once.
fn traced(pid: u32) -> Result<(), String> {
    let mut trace = as_nobody(Path::new("strace"));
    // Once it has attached it says so, and waits for calls of a process that makes none.
    trace.args(["-p", &pid.to_string()]).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut trace = Killed(trace.spawn().unwrap());
    let said = std::io::BufReader::new(trace.0.stderr.take().unwrap());
    let said = std::io::BufRead::lines(said).next().unwrap().unwrap();
    if said.contains("attached") { Ok(()) } else { Err(said) }
}

/// A command as a user without rights, when this test has them to give up.
fn as_nobody(program: &Path) -> Command {
    let mut command = Command::new(program);
    if confine::process::is_root() {
        command.uid(65_534).gid(65_534);
    }
    command
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn write_config(folder: &Path, token: &str) {
    let text = format!(
        "network = \"regtest\"\nlisten = \"127.0.0.1:7400\"\nstate_dir = {:?}\npolicy = {:?}\nsandbox = \"required\"\n\
         [officers]\nquorum = 1\nkeys = {{}}\n[tls]\ncertificate = \"a\"\nkey = \"b\"\nca = \"c\"\n[token]\n{token}\n",
        folder.join("state"),
        folder.join("policy.toml"),
    );
    fs::write(folder.join("signer.toml"), text).unwrap();
    fs::write(folder.join("policy.toml"), "version = 1\n").unwrap();
}
