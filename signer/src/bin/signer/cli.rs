//! The commands and their arguments, as people read them. It never does their work.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use signer::conformance::TierName;

/// The isolated signer.
#[derive(Parser)]
#[command(version, about)]
pub(crate) struct Arguments {
    /// The configuration file.
    #[arg(long, global = true, default_value = "/etc/cofferdam/signer/signer.toml")]
    pub(crate) config: PathBuf,
    /// How the service's own log is written.
    #[arg(long, global = true, value_enum, default_value_t = Lines::Text)]
    pub(crate) log: Lines,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Lines of the service's own log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Lines {
    /// For people.
    Text,
    /// For programs: one JSON object a line.
    Json,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Makes the token's keys and begins the log. Running it again changes nothing.
    Init {
        /// The officers it begins with: a file with the sections [[officer]], [[group]] and [governance], as the first policy
        /// will have them. Two people compare the digest that is shown. Needed on the main network.
        #[arg(long, value_name = "FILE")]
        officers: Option<PathBuf>,
        /// Also writes the wrapping key here, as PEM.
        #[arg(long)]
        pem: Option<PathBuf>,
        /// A file with an officer's statement, where the policy in force asks for them before a token gets more keys.
        #[arg(long = "statement", value_name = "FILE")]
        statements: Vec<PathBuf>,
    },
    /// Shows the wrapping key and its fingerprint, for a ceremony.
    WrappingKey {
        /// The sealing key instead, for accounts of the tier sealed-hd.
        #[arg(long)]
        sealing: bool,
        /// Writes the PEM here instead of showing it.
        #[arg(long)]
        pem: Option<PathBuf>,
    },
    /// Takes a ceremony's bundle in, once it is proven to be the policy's wallet, made for this token.
    Import {
        /// The file.
        bundle: PathBuf,
        /// The wallet's name in the policy; found by the descriptor when not given.
        #[arg(long)]
        wallet: Option<String>,
        /// As for `serve`.
        #[arg(long)]
        clock_is_right: bool,
        /// A file with an officer's statement, where the policy in force asks for them; once for each.
        #[arg(long = "statement", value_name = "FILE")]
        statements: Vec<PathBuf>,
    },
    /// Lets this machine serve with this token, where the policy in force has officers say which do: a site that was restored
    /// without its state folder, or a second one; and a state folder whose checkpoint was lost. Without statements it says
    /// what they must sign. The signer must be down.
    Activate {
        /// Why a state folder without its checkpoint is used again, where the policy asks no officers; written to the log.
        #[arg(long, value_name = "TEXT", conflicts_with = "statements")]
        reason: Option<String>,
        /// A file with an officer's statement; once for each.
        #[arg(long = "statement", value_name = "FILE")]
        statements: Vec<PathBuf>,
    },
    /// Serves until it is told to end.
    Serve {
        /// The machine's clock was looked at and is right, although the log's last entry is more than a week older
        /// or an hour newer. A clock that jumped ahead would empty every rolling limit.
        #[arg(long)]
        clock_is_right: bool,
        /// Waits until no other signer has the log, and takes it over when that shows no sign of life for eight seconds
        /// (PostgreSQL; on SQLite once its process has ended). Start both signers like this.
        #[arg(long)]
        standby: bool,
    },
    /// About a wallet's keys: which state they are in, as NIST SP 800-57 has it. The signer must be down.
    Key {
        #[command(subcommand)]
        command: KeyCommand,
    },
    /// About keys for coins that are born in the token and never leave it (tier token). The signer must be down.
    TokenKey {
        #[command(subcommand)]
        command: TokenKeyCommand,
    },
    /// Holds any PKCS#11 module against the signer's needs, on a scratch token; needs no configuration. Keys stay behind
    /// in the token: initialise it again afterwards. Fails when the tier asked for cannot be carried. The worker that loads
    /// the module is confined as in service (`--sandbox`): what an unknown module needs beside its libraries and what the
    /// environment names is said by `--module-file`.
    Conformance(Conformance),
    /// Looks at module, token, keys, sandbox, clock, database and log, and says what is wrong. Never needs a running
    /// signer and never disturbs one. Ends with 0 when all is well, 1 with warnings, 2 when something is broken.
    Doctor {
        /// For programs: one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Changes a token's user PIN, and the PIN file with it, with the signer stopped.
    SetPin {
        /// The standby whose PIN it is, by its name in the configuration; the first token's when not given.
        #[arg(long, value_name = "NAME")]
        token: Option<String>,
        /// A file with the PIN that the token has now, mode 0600, where that is not the service's: of the people who imported
        /// a key. The new PIN is the service's all the same.
        #[arg(long, value_name = "FILE", conflicts_with = "finish")]
        old_pin_file: Option<PathBuf>,
        /// A file with the new PIN, mode 0600; asked for on the terminal when not given.
        #[arg(long, value_name = "FILE", conflicts_with = "finish")]
        new_pin_file: Option<PathBuf>,
        /// Finish a change that was interrupted: find out whether the token has the new PIN (this may cost one try). A PIN that
        /// it calls wrong is kept in `PIN_FILE.refused`.
        #[arg(long)]
        finish: bool,
        /// Try the new PIN although the last try got no answer, or the token has seen a wrong PIN: see with the vendor's tool
        /// first how many tries are left.
        #[arg(long, requires = "finish")]
        again: bool,
        /// Also when the token says that one more wrong PIN locks it: the last try is for the new PIN.
        #[arg(long, requires = "finish")]
        last_try: bool,
        /// A file with an officer's statement, where the policy in force asks for them; once for each.
        #[arg(long = "statement", value_name = "FILE")]
        statements: Vec<PathBuf>,
    },
    /// About key-encryption keys of the scheme aes-kwp: how one comes into the token. People sit here, with a PIN that the
    /// service does not have, and no signer serves.
    Kek {
        #[command(subcommand)]
        command: KekCommand,
        /// File with the PIN of those who do it, readable by its owner alone and not the service's; asked for when not
        /// given.
        #[arg(long, value_name = "FILE", global = true)]
        pin_file: Option<PathBuf>,
    },
    /// About the token's PIN.
    Pin {
        #[command(subcommand)]
        command: PinCommand,
    },
    /// About the trust in the token.
    Token {
        #[command(subcommand)]
        command: TokenCommand,
    },
}

#[derive(clap::Args)]
pub(crate) struct Conformance {
    /// The PKCS#11 module.
    #[arg(long)]
    pub(crate) module: PathBuf,
    /// Label of the scratch token.
    #[arg(long)]
    pub(crate) token_label: String,
    /// File with its user PIN, readable by its owner alone.
    #[arg(long)]
    pub(crate) pin_file: PathBuf,
    /// The tier that the token must be able to carry.
    #[arg(long, default_value = "token-hd")]
    pub(crate) tier: TierName,
    /// As Markdown, to send to a vendor.
    #[arg(long, conflicts_with = "json")]
    pub(crate) markdown: bool,
    /// As JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// The token-worker program, if it is not beside this one.
    #[arg(long)]
    pub(crate) worker: Option<PathBuf>,
    /// The number at which the module has AES key wrap with padding (RFC 5649): 0x210a, 0x210b, or a vendor's own.
    #[arg(long, default_value = "0x210a")]
    pub(crate) kwp_mechanism: String,
    /// The number at which the module has EdDSA: 0x1057, or a vendor's own.
    #[arg(long, default_value = "0x1057")]
    pub(crate) eddsa_mechanism: String,
    /// The number at which the module makes keys for EdDSA: 0x1055, or a vendor's own.
    #[arg(long, default_value = "0x1055")]
    pub(crate) eddsa_key_pair_gen_mechanism: String,
    /// Confine the worker as in service: "on" says what the kernel lacks, "required" ends without it, "off" does nothing.
    #[arg(long, default_value = "on")]
    pub(crate) sandbox: confine::Mode,
    /// Let the module reach the network: it is of an HSM there.
    #[arg(long)]
    pub(crate) network: bool,
    /// A file or folder that the module needs beside its libraries and what the environment names: its state, its device.
    #[arg(long = "module-file", value_name = "PATH")]
    pub(crate) module_files: Vec<PathBuf>,
    /// Longest time for all of it.
    #[arg(long, default_value_t = 600)]
    pub(crate) seconds_max: u32,
}

#[derive(Subcommand)]
pub(crate) enum KeyCommand {
    /// Shows every wallet with keys, its tier and their state.
    List,
    /// Nothing is signed or attested with them until they are activated again.
    Suspend(KeyOf),
    /// Suspended ones are used again.
    Activate {
        #[command(flatten)]
        of: KeyOf,
        #[command(flatten)]
        by: By,
    },
    /// They are only swept out from now on. For ever.
    Retire(KeyOf),
    /// Somebody else may have them: nothing is signed or attested any more. For ever.
    Compromised(KeyOf),
}

/// Who let it be done.
#[derive(clap::Args)]
pub(crate) struct By {
    /// A file with an officer's statement, where the policy in force asks for them; once for each.
    #[arg(long = "statement", value_name = "FILE")]
    pub(crate) statements: Vec<PathBuf>,
}

#[derive(clap::Args)]
pub(crate) struct KeyOf {
    /// The wallet's name in the policy.
    pub(crate) wallet: String,
    /// Why; written to the log.
    #[arg(long)]
    pub(crate) reason: String,
}

#[derive(Subcommand)]
pub(crate) enum TokenKeyCommand {
    /// Has the token make a key, looks at every attribute, and writes it down. Running it again changes nothing.
    Generate {
        /// What people call it.
        name: String,
        #[command(flatten)]
        by: By,
    },
    /// Shows every key: name, tier, state, public key, and the wallets that it signs for.
    List,
    /// Shows what the token's attestation key signs about a key: public key and attributes.
    Attest {
        /// Which key.
        name: String,
        /// Writes it here instead of showing it.
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Nothing is signed or attested by wallets with this key until it is activated again.
    Suspend(TokenKeyOf),
    /// A suspended one is used again.
    Activate {
        #[command(flatten)]
        of: TokenKeyOf,
        #[command(flatten)]
        by: By,
    },
    /// Its wallets are only swept out from now on. For ever.
    Retire(TokenKeyOf),
    /// Somebody else may use it: nothing is signed or attested by its wallets any more. For ever.
    Compromised(TokenKeyOf),
}

#[derive(clap::Args)]
pub(crate) struct TokenKeyOf {
    /// Which key.
    pub(crate) name: String,
    /// Why; written to the log.
    #[arg(long)]
    pub(crate) reason: String,
}

#[derive(Subcommand)]
pub(crate) enum KekCommand {
    /// Makes the one-time key of an import. Until it is gone again, no signer serves with this token.
    Open {
        /// Where to write its public half, for a ceremony.
        #[arg(long, value_name = "FILE")]
        pem: PathBuf,
        #[command(flatten)]
        by: By,
    },
    /// Takes the key in that a ceremony handed over, and destroys the one-time key.
    Import {
        /// What the ceremony wrote (`--kek-out`).
        file: PathBuf,
        /// The key's fingerprint as the ceremony's screen shows it; asked for when not given.
        #[arg(long, value_name = "FINGERPRINT")]
        kek: Option<String>,
        #[command(flatten)]
        by: By,
    },
    /// Destroys the one-time key without an import.
    Close,
    /// A key that no wallet's bundle is under is not asked for any more, so that a signer starts although the token does not
    /// hold it, or holds it twice.
    Forget {
        /// Its fingerprint.
        kek: String,
        #[command(flatten)]
        by: By,
    },
}

#[derive(Subcommand)]
pub(crate) enum PinCommand {
    /// Allows one more login after the PIN was refused. Put the right PIN in place first.
    Clear {
        /// Also when the token says that one more wrong PIN locks it.
        #[arg(long)]
        last_try: bool,
        #[command(flatten)]
        by: By,
    },
}

#[derive(Subcommand)]
pub(crate) enum TokenCommand {
    /// Lets the token be used again after it signed wrongly. Find out why first; restart the signer afterwards.
    Clear {
        #[command(flatten)]
        by: By,
    },
    /// Gives up what the tokens remember of the log (`anchor = true`), where no database is left that follows from it and
    /// everybody knows why: the next start goes on from the log as it is. The signer must be down.
    AnchorForget {
        /// Why, where the policy in force asks no officers; written to the log.
        #[arg(long, value_name = "TEXT", conflicts_with = "statements")]
        reason: Option<String>,
        #[command(flatten)]
        by: By,
    },
}
