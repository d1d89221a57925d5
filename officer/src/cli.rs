//! The commands and their arguments. It never does their work.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use clap::{Args, Parser, Subcommand};

use statement::Says;

use crate::approvals::desk::Desk;
use crate::approvals::{commands, handing_in, lists, unbind};
use crate::audit::live::Live;
use crate::audit::{self, source::Source};
use crate::key::{self, Key, Kind};
use crate::replay::{explain, simulate};
use crate::text::parse_span;
use crate::witness::{self, Witness};
use crate::{addresses, book, clients, diff, facts, orders, passphrase, policies, token_keys};

/// Keys, policies, orders, addresses and the log, for people.
#[derive(Debug, Parser)]
#[command(name = "officer", version, about)]
pub struct Officer {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a key, in a file (mode 0600) or in a token, and print its public half.
    Keygen(Keygen),
    /// Print the public half of a key, in the form for the policy.
    Key {
        /// Your key file, or the `pkcs11:` URI of your key in a token.
        key: PathBuf,
    },
    /// What waits for officers at a signer, and what is frozen there.
    Pending(commands::Common),
    /// What a signer is and stands under: its log, and the policy in force in words, read here out of the text that the signer
    /// shows, and held against the one in your settings.
    Status(commands::Common),
    /// Decode a waiting request here, compare it with what the service says, and show it.
    Show {
        #[command(flatten)]
        which: commands::Which,
        /// Also write what was shown to this file, for an officer without a connection.
        #[arg(long)]
        export: Option<PathBuf>,
        #[command(flatten)]
        common: commands::Common,
    },
    /// Print what happens at a signer, line by line.
    Watch(commands::Watching),
    /// Say that a request may be signed.
    Approve(commands::OnRequest),
    /// Say that a request must never be signed.
    Reject(commands::OnRequest),
    /// Veto a request, where the policy lets you.
    Veto(commands::OnRequest),
    /// Veto a policy that is proposed, as a member of the group that the policy in force names for it: at once, and for good.
    VetoPolicy(commands::OnPolicy),
    /// Let a client that the signer locked out come in again.
    Free(commands::OnClient),
    /// Take an approval of yours back, until what it approved is signed and let out.
    Revoke(commands::OnStatement),
    /// Freeze everything, evacuation, a wallet, a lane, a client or a coin. One officer is enough.
    Freeze(commands::OnScope),
    /// Say that a freeze may be lifted. It takes as many officers as the policy says.
    Unfreeze(commands::OnStatement),
    /// Say that what was signed for an order can never confirm, so that the order may be paid beside it. It takes as many officers
    /// as the policy says; if it does confirm, the payee is paid twice.
    Unbind(unbind::OnOrder),
    /// Say that something may be done at the signer's machine, where the policy asks officers.
    Administer(commands::OnTask),
    /// Hand a new revocation list to a signer.
    #[command(subcommand)]
    Crl(Crl),
    /// Say what time it is, when the signer's clock is in doubt. One of those whom `unfreeze` names is enough.
    Time(commands::OnClock),
    /// Check and sign policies.
    #[command(subcommand)]
    Policy(Policy),
    /// Keys and signatures of services that order payments.
    #[command(subcommand)]
    Order(Order),
    /// State facts that decisions ask for: for screeners and reconcilers.
    #[command(subcommand)]
    Fact(facts::Stating),
    /// Entries of the address book: for book keys of the policy.
    #[command(subcommand)]
    Book(book::Book),
    /// Free clients that a signer locked out.
    #[command(subcommand)]
    Client(Client),
    /// Check deposit addresses.
    #[command(subcommand)]
    Address(Address),
    /// Check keys that were born in a signer's token.
    #[command(subcommand)]
    TokenKey(TokenKey),
    /// Check a signer's log offline: neither the signer nor its token is needed.
    #[command(subcommand, alias = "audit")]
    Log(Log),
    /// Be a witness: remember how long a signer's log was, and cosign only what grew from that.
    #[command(subcommand)]
    Witness(Witness),
}

#[derive(Debug, Subcommand)]
enum Crl {
    /// Hand in the authority's newest list: it counts once as many officers as the policy has under `administer` did, or one where
    /// it has nobody there.
    Push(lists::OnList),
}

#[derive(Debug, Subcommand)]
enum Client {
    /// Sign that a client is freed; the file goes into the folder `free` of the signer's state folder, ending in `.free`.
    Free(clients::Free),
}

#[derive(Debug, Args)]
struct Keygen {
    /// Where to write it; an existing file is never overwritten.
    #[arg(long, required_unless_present = "token", conflicts_with = "token")]
    out: Option<PathBuf>,
    /// Make it in a token, where it stays: `pkcs11:serial=…;object=NAME?module-path=…` (docs/officers.md). Officers' keys only.
    #[arg(long, conflicts_with_all = ["name", "sealed", "in_clear"])]
    token: Option<String>,
    /// A P-256 key in place of an Ed25519 key. Officers' keys only.
    #[arg(long)]
    p256: bool,
    /// Name of the key as officers' configurations or the policy write it; kept in the file.
    #[arg(long)]
    name: Option<String>,
    /// Seal the key by a passphrase, which is asked for on the terminal: as is done without this option too.
    #[arg(long, conflicts_with = "in_clear")]
    sealed: bool,
    /// Leave the key in clear, for a service that signs orders with nobody at the terminal, or for tests.
    #[arg(long)]
    in_clear: bool,
    /// A file whose first line is the passphrase, for scripts.
    #[arg(long, conflicts_with_all = ["in_clear", "token"])]
    passphrase_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Policy {
    /// Read a policy as strictly as the signer does, and say in words what it allows.
    Check {
        /// The policy's TOML file.
        file: PathBuf,
        /// Network it must be for; without it, the one it names.
        #[arg(long)]
        network: Option<String>,
        /// Say what ends within this time, e.g. 90d.
        #[arg(long, default_value = "30d", value_parser = crate::text::parse_span)]
        within: u64,
        /// The policy in force: says which entries of lists are new and count only later.
        #[arg(long, value_name = "OLD_POLICY")]
        against: Option<PathBuf>,
    },
    /// Show who the officers of an officers' file or a policy are, and the digest that a signer begins under with them.
    Officers {
        /// The officers' file, or the policy.
        file: PathBuf,
    },
    /// Run requests against a policy, one a line, and say which come out otherwise than expected.
    Test {
        /// The policy's TOML file.
        file: PathBuf,
        /// Lines such as `wait approvals: pay 1 BTC` (docs/policy.md).
        cases: PathBuf,
        /// The network it must be for; otherwise the one it names.
        #[arg(long)]
        network: Option<String>,
    },
    /// Say what a new policy changes, and whether it provably only tightens.
    Diff {
        /// The policy in force.
        before: PathBuf,
        /// The policy that is to follow it.
        after: PathBuf,
        /// Network both must be for; without it, the one they name.
        #[arg(long)]
        network: Option<String>,
        /// Fail unless it provably only tightens, for scripts.
        #[arg(long)]
        must_tighten: bool,
        /// For programs: one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Say all that a log has of one request: every rule and what it said, what it needs, who can still give it, what is used
    /// of each limit, and what would have to change. Computed here, from a log that is verified first.
    Explain {
        /// The request's id, the first 8 digits of it or more, or its caller's key.
        request: String,
        #[command(flatten)]
        log: Where,
        /// The signer's checkpoint key in hex.
        #[arg(long)]
        key: String,
        /// A checkpoint kept elsewhere that the log must contain.
        #[arg(long)]
        checkpoint: Vec<PathBuf>,
        /// For programs: one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Decide every request of a log again by a draft, and list each decision that comes out otherwise. Exits with 2 when one
    /// does, and with 3 when none does but some could not be decided again.
    Simulate {
        /// The draft's TOML file; nobody needs to have signed it.
        draft: PathBuf,
        #[command(flatten)]
        log: Where,
        /// The signer's checkpoint key in hex.
        #[arg(long)]
        key: String,
        /// A checkpoint kept elsewhere that the log must contain.
        #[arg(long)]
        checkpoint: Vec<PathBuf>,
        /// How far back from the log's last entry: 90m, 12h, 30d. Without it, from the first entry on.
        #[arg(long, value_parser = parse_span)]
        since: Option<u64>,
        /// For programs: one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Veto a policy that was proposed, as a member of the group that the policy in force names for it: the signature goes
    /// into FILE.veto. The signer takes it at its next start; a vetoed text never comes into force. `officer veto-policy`
    /// says the same to a signer that runs.
    Veto {
        /// The policy's TOML file.
        file: PathBuf,
        /// Your key file, or the `pkcs11:` URI of your key in a token.
        #[arg(long)]
        key: PathBuf,
        /// Your name in the policy in force; without it, the name in the key file.
        #[arg(long)]
        name: Option<String>,
    },
    /// Show a policy in words, sign it, and put the signature into FILE.sig.
    Sign {
        /// The policy's TOML file.
        file: PathBuf,
        /// Your key file, or the `pkcs11:` URI of your key in a token.
        #[arg(long)]
        key: PathBuf,
        /// Your name in the signer's configuration; without it, the name in the key file.
        #[arg(long)]
        name: Option<String>,
        /// Network it must be for; without it, the one it names.
        #[arg(long)]
        network: Option<String>,
        /// Do not ask. (On a terminal you are asked; elsewhere nobody could answer.)
        #[arg(long)]
        yes: bool,
    },
    /// Hand a policy with its signatures (FILE.sig) to the running signer: what provably only tightens is in force at once,
    /// anything else is proposed and waits its delay. Nobody at the signer's machine is needed, and any client with
    /// `officers = true` may bring it.
    Push(handing_in::OnBundle),
}

#[derive(Debug, Subcommand)]
enum Order {
    /// Make an order key file (mode 0600) and print its public half, for the policy.
    Keygen(Keygen),
    /// Sign an order and print the JSON body of the watcher's SubmitPayout.
    Sign(orders::SignOrder),
}

#[derive(Debug, Subcommand)]
enum Address {
    /// Check the JSON of an Address as the watcher's IssueAddress returns it.
    Verify(addresses::VerifyAddress),
}

#[derive(Debug, Subcommand)]
enum TokenKey {
    /// Check what `signer token-key attest` wrote.
    Verify(token_keys::VerifyTokenKey),
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Where {
    /// The log's database, `sqlite:PATH` or `postgres://…`; it is only read. Stop the signer first, or use a copy.
    #[arg(long)]
    database: Option<String>,
    /// A file made by `officer log export`.
    #[arg(long)]
    export: Option<PathBuf>,
    /// Your settings, as for `officer pending`: the running signer is asked. Its client needs `log = true`.
    #[arg(long)]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Log {
    /// Check every entry, the tree, every checkpoint and the rules between entries. Fails at the first bad one.
    Verify {
        #[command(flatten)]
        log: Where,
        /// The signer's checkpoint key in hex, as you wrote it down when the token was made.
        #[arg(long)]
        key: String,
        /// A checkpoint kept elsewhere (a witness's, or the signer's state folder's) that the log must contain.
        #[arg(long)]
        checkpoint: Vec<PathBuf>,
        /// Print every entry.
        #[arg(long)]
        dump: bool,
    },
    /// Verify the log and print entries of it.
    Show {
        #[command(flatten)]
        log: Where,
        /// The signer's checkpoint key in hex.
        #[arg(long)]
        key: String,
        /// Number of the first one, counted from 0.
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// How many; all when not given.
        #[arg(long)]
        most: Option<u64>,
        /// Print an object a line, and one for the log at the end: without that line, nothing before it counts.
        #[arg(long)]
        json: bool,
    },
    /// Verify the log and show what is in the address book at its end.
    Book {
        #[command(flatten)]
        log: Where,
        /// The signer's checkpoint key in hex.
        #[arg(long)]
        key: String,
        /// A checkpoint kept elsewhere that the log must contain.
        #[arg(long)]
        checkpoint: Vec<PathBuf>,
        /// For programs: one JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Prove that an entry is in the log, in a file that can be checked without the log.
    Prove {
        #[command(flatten)]
        log: Where,
        /// The signer's checkpoint key in hex.
        #[arg(long)]
        key: String,
        /// Which entry, counted from 0.
        #[arg(long)]
        entry: u64,
        /// Where to write the proof; an existing file is never overwritten.
        #[arg(long)]
        out: PathBuf,
    },
    /// Check a file that `officer log prove` made, and show the entry.
    CheckProof {
        /// The file.
        file: PathBuf,
        /// The signer's checkpoint key in hex.
        #[arg(long)]
        key: String,
    },
    /// Verify the log, and hold the token vendor's own audit log against it: one operation of the token's too many or too
    /// few, and it fails.
    Reconcile {
        #[command(flatten)]
        log: Where,
        /// The signer's checkpoint key in hex.
        #[arg(long)]
        key: String,
        /// What the token did by its vendor's word (docs/log.md).
        #[arg(long)]
        vendor: PathBuf,
        /// A file `operations-…` of the signer's state folder: what is in no entry yet. No checkpoint covers it.
        #[arg(long)]
        waiting: Vec<PathBuf>,
    },
    /// Write entries and checkpoints to one file, for people without access to the database.
    Export {
        /// The log's database; it is only read.
        #[arg(long)]
        database: String,
        /// Where to write it; an existing file is never overwritten.
        #[arg(long)]
        out: PathBuf,
    },
}

/// Runs one command.
///
/// # Errors
/// Whatever went wrong, in a sentence; the program then exits with 1.
pub fn run(officer: Officer, out: &mut impl Write) -> Result<()> {
    match officer.command {
        Command::Keygen(args) => keygen(&args, out),
        Command::Order(Order::Keygen(args)) => {
            ensure!(
                args.token.is_none() && !args.p256,
                "orders are signed by Ed25519 keys in files alone"
            );
            keygen(&args, out)
        }
        Command::Key { key } => show_key(&Key::load(&key)?, out),
        Command::Pending(common) => block_on(commands::pending(&common, out)),
        Command::Status(common) => block_on(commands::status(&common, out)),
        Command::Show { which, export, common } => {
            block_on(commands::show_one(&which, export.as_deref(), &common, out))
        }
        Command::Watch(args) => block_on(commands::notifications(&args, out)),
        Command::Approve(args) => block_on(commands::on_request(&args, Says::Approve, out)),
        Command::Reject(args) => block_on(commands::on_request(&args, Says::Reject, out)),
        Command::Veto(args) => block_on(commands::on_request(&args, Says::Veto, out)),
        Command::VetoPolicy(args) => block_on(commands::veto_policy(&args, out)),
        Command::Free(args) => block_on(commands::free(&args, out)),
        Command::Revoke(args) => block_on(commands::on_statement(&args, Says::Revoke, out)),
        Command::Freeze(args) => block_on(commands::freeze(&args, out)),
        Command::Crl(Crl::Push(args)) => block_on(lists::push(&args, out)),
        Command::Administer(args) => block_on(commands::administer(&args, out)),
        Command::Unfreeze(args) => block_on(commands::on_statement(&args, Says::Unfreeze, out)),
        Command::Unbind(args) => block_on(unbind::unbind(&args, out)),
        Command::Time(args) => block_on(commands::tell_time(&args, out)),
        Command::Policy(policy) => check_policy(policy, out),
        Command::Book(book) => block_on(book::run(book, out)),
        Command::Fact(stating) => block_on(facts::run(stating, out)),
        Command::Order(Order::Sign(args)) => orders::sign(&args, out),
        Command::Client(Client::Free(args)) => clients::free(&args, out),
        Command::Address(Address::Verify(args)) => addresses::verify(&args, out),
        Command::TokenKey(TokenKey::Verify(args)) => token_keys::verify(&args, out),
        Command::Log(log) => check_log(log, out),
        Command::Witness(command) => witness::run(command, out),
    }
}

fn show_key(key: &Key, out: &mut impl Write) -> Result<()> {
    let key = key.public();
    writeln!(out, "public key  {0}\nin a policy {1} = \"{0}\"", key.to_hex(), key.kind())?;
    Ok(())
}

fn check_policy(policy: Policy, out: &mut impl Write) -> Result<()> {
    match policy {
        Policy::Check { file, network, within, against } => {
            let beside = policies::Beside { within_seconds: within, against: against.as_deref() };
            policies::check(&file, network.as_deref(), beside, out)
        }
        Policy::Officers { file } => policies::officers(&file, out),
        Policy::Test { file, cases, network } => {
            policies::test(&file, &cases, network.as_deref(), out)
        }
        Policy::Diff { before, after, network, must_tighten, json } => {
            let form = diff::Form { json, must_tighten };
            diff::diff(&before, &after, network.as_deref(), form, out)
        }
        Policy::Explain { request, log, key, checkpoint, json } => {
            let (key, kept) = (key::public_key(&key)?, kept(&checkpoint)?);
            block_on(async {
                let mut source = open(log).await?;
                explain::explain(&mut source, &request, key, &kept, json, out).await
            })
        }
        Policy::Simulate { draft, log, key, checkpoint, since, json } => {
            let (key, kept) = (key::public_key(&key)?, kept(&checkpoint)?);
            block_on(async {
                let mut source = open(log).await?;
                let asked = simulate::Asked { key, kept: &kept, since, json };
                simulate::simulate(&mut source, &draft, asked, out).await
            })
        }
        Policy::Veto { file, key, name } => {
            let key = Key::load(&key)?;
            policies::veto(&file, &policies::Signer { key: &key, name: name.as_deref() }, out)
        }
        Policy::Sign { file, key, name, network, yes } => {
            let key = Key::load(&key)?;
            let signer = policies::Signer { key: &key, name: name.as_deref() };
            policies::sign(&file, network.as_deref(), &signer, yes, out)
        }
        Policy::Push(args) => block_on(handing_in::push(&args, out)),
    }
}

fn check_log(command: Log, out: &mut impl Write) -> Result<()> {
    match command {
        Log::Verify { log, key, checkpoint, dump } => {
            let key = key::public_key(&key)?;
            let kept = kept(&checkpoint)?;
            let shown = if dump { 0..u64::MAX } else { 0..0 };
            block_on(async {
                let mut source = open(log).await?;
                audit::verify(&mut source, key, &kept, shown, out).await
            })
        }
        Log::Show { log, key, from, most, json } => {
            let key = key::public_key(&key)?;
            let shown = from..most.map_or(u64::MAX, |most| from.saturating_add(most));
            block_on(async {
                let mut source = open(log).await?;
                match json {
                    true => audit::objects(&mut source, key, shown, out).await,
                    false => audit::verify(&mut source, key, &[], shown, out).await,
                }
            })
        }
        Log::Book { log, key, checkpoint, json } => {
            let (key, kept) = (key::public_key(&key)?, kept(&checkpoint)?);
            block_on(async {
                let mut source = open(log).await?;
                book::show(&mut source, key, &kept, json, out).await
            })
        }
        Log::Prove { log, key, entry, out: file } => {
            let key = key::public_key(&key)?;
            block_on(async {
                let mut source = open(log).await?;
                audit::prove::prove(&mut source, key, entry, &file, out).await
            })
        }
        Log::CheckProof { file, key } => audit::prove::check(&file, key::public_key(&key)?, out),
        Log::Reconcile { log, key, vendor, waiting } => {
            let key = key::public_key(&key)?;
            block_on(async {
                let mut source = open(log).await?;
                audit::reconcile::reconcile(&mut source, key, &vendor, &waiting, out).await
            })
        }
        Log::Export { database, out: file } => block_on(async {
            let mut source = Source::database(&database).await?;
            audit::source::export(&mut source, &file, out).await
        }),
    }
}

fn kept(checkpoints: &[PathBuf]) -> Result<Vec<String>> {
    checkpoints.iter().map(audit::kept::read_checkpoint).collect()
}

async fn open(log: Where) -> Result<Source> {
    match (log.database, log.export, log.config) {
        (Some(url), ..) => Source::database(&url).await,
        (None, Some(path), _) => Source::export(&path),
        (None, None, Some(config)) => {
            let channel = Desk::load(&config)?.channel().await?;
            Ok(Source::Live(Box::new(Live::open(channel).await?)))
        }
        (None, None, None) => {
            anyhow::bail!("say which log: --database URL, --export FILE or --config FILE")
        }
    }
}

fn keygen(args: &Keygen, out: &mut impl Write) -> Result<()> {
    let kind = if args.p256 { Kind::P256 } else { Kind::Ed25519 };
    if let Some(uri) = &args.token {
        let public = key::generate_in_token(uri, kind)?;
        writeln!(
            out,
            "secret key  in the token, and stays there\npublic key  {}",
            public.to_hex()
        )?;
        return Ok(());
    }
    let file = args.out.as_deref().context("say where: --out FILE")?;
    let passphrase = match args.in_clear {
        true => None,
        false => Some(passphrase::choose(args.passphrase_file.as_deref()).context(
            "the key is sealed by a passphrase: type one, give --passphrase-file FILE, or leave the key --in-clear",
        )?),
    };
    let passphrase = passphrase.as_ref().map(|passphrase| passphrase.as_str());
    let public = key::generate(file, kind, args.name.as_deref(), passphrase)?;
    writeln!(out, "secret key  {}", file.display())?;
    if passphrase.is_none() {
        writeln!(
            out,
            "note        it lies there in clear, and whoever reads the file signs by it: without --in-clear a passphrase seals it"
        )?;
    }
    writeln!(out, "public key  {}", public.to_hex())?;
    Ok(())
}

pub(crate) fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start the runtime")?.block_on(work)
}
