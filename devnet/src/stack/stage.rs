//! The steps before anything runs, one by one, so that the demo can tell each. Never starts a service.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::keys::{self, Account, Children, Descriptors, Script, Tier, fill, text};
use super::{CLIENTS, WITNESS, people};
use crate::process::Process;
use crate::programs::Programs;
use crate::{Credential, Pki};

/// A folder in which a system is being set up.
#[derive(Debug)]
pub struct Stage {
    pub(super) dir: PathBuf,
    pub(super) programs: Programs,
    pub(super) credentials: BTreeMap<String, Credential>,
    pub(super) descriptors: Descriptors,
    pub(super) token: TokenFacts,
    /// The shop's key for its orders, in hex.
    pub(super) shop: String,
    /// The policy's section for the witness that it requires, if any.
    witness: Option<String>,
    tier: Tier,
    script: Script,
}

/// What the signer says of its token's keys.
#[derive(Debug, Clone, Default)]
pub struct TokenFacts {
    /// The wrapping key's fingerprint, in the lines that people compare.
    pub fingerprint: Vec<String>,
    /// The sealing key's.
    pub sealing: Vec<String>,
    /// Public key that attests addresses, in hex.
    pub attestation: String,
    /// Public key that signs the log's checkpoints, in hex.
    pub checkpoint: String,
}

impl Stage {
    /// Makes the folders, the certificates, and the officer's and the shop's keys.
    pub fn prepare(dir: &Path, tier: Tier, script: Script) -> Result<Self> {
        let programs = Programs::find()?;
        for folder in ["ceremony", "officer", "signer", "watcher"] {
            let folder = dir.join(folder);
            fs::create_dir_all(&folder)
                .with_context(|| format!("could not make {}", folder.display()))?;
        }
        let pki = Pki::create(&dir.join("pki"))?;
        pki.server("signer")?;
        pki.server("watcher")?;
        let mut credentials = BTreeMap::new();
        for name in CLIENTS {
            credentials.insert(name.to_owned(), pki.client(name)?);
        }
        credentials.insert("stranger".to_owned(), pki.stranger("watcher-1")?);
        let (descriptors, token) = (Descriptors::default(), TokenFacts::default());
        let (dir, shop) = (dir.to_owned(), String::new());
        let witness = None;
        Ok(Self { dir, programs, credentials, descriptors, token, shop, witness, tier, script })
    }

    /// Makes the token and, born in it, the wrapping, attestation and checkpoint keys.
    pub fn make_token(&mut self, signer_port: u16) -> Result<&TokenFacts> {
        let section =
            self.programs.run("softhsm-setup", &["--dir", text(&self.dir.join("token"))?])?;
        let alice = people::make_key(&self.programs, &self.dir, "alice")?;
        let (port, dir) = (signer_port.to_string(), text(&self.dir)?);
        let config =
            fill(include_str!("signer.toml"), &[("port", &port), ("dir", dir), ("alice", &alice)])?;
        // [token] comes last.
        let schemes = match self.tier {
            Tier::TokenHdKwp => "schemes = [\"aes-kwp\"]\n",
            Tier::TokenHd | Tier::SealedHd => "",
        };
        fs::write(self.signer_config(), format!("{config}{section}{schemes}"))?;
        self.make_keys()?;
        Ok(&self.token)
    }

    /// Has the token make its keys, and brings those that a ceremony needs to it.
    fn make_keys(&mut self) -> Result<()> {
        let pem = self.dir.join("ceremony").join("wrapping-key.pem");
        let said = self.signer(&["init", "--pem", text(&pem)?])?;
        self.token = TokenFacts::read(&said)?;
        let pem = self.dir.join("ceremony").join("sealing-key.pem");
        self.signer(&["wrapping-key", "--sealing", "--pem", text(&pem)?])?;
        Ok(())
    }

    /// Makes the accounts of `deposits` and `hot`, their children wrapped for the token, and the cold wallet.
    pub fn hold_ceremony(&mut self, children: Children) -> Result<&Descriptors> {
        let (tier, script) = (self.tier, self.script);
        let hold =
            |wallet, number| self.make_account(&Account { wallet, number, tier, script, children });
        let (deposits, hot) = (hold("deposits", 0)?, hold("hot", 1)?);
        self.descriptors = Descriptors { deposits, hot, cold: keys::cold_descriptor()? };
        if self.tier == Tier::TokenHdKwp {
            self.leave_token_to_service()?;
        }
        Ok(&self.descriptors)
    }

    /// Holds a ceremony for one account; returns its descriptor, or a cosigner's key expression.
    pub(super) fn make_account(&self, account: &Account<'_>) -> Result<String> {
        let fingerprint = match account.tier {
            Tier::TokenHd => self.token.fingerprint.concat(),
            Tier::SealedHd => self.token.sealing.concat(),
            Tier::TokenHdKwp => self.open_import()?,
        };
        let made = keys::ceremony(&self.programs, &self.dir, account, &fingerprint)?;
        if account.tier == Tier::TokenHdKwp {
            let file = keys::kek(&self.dir, account.wallet);
            let kek = bundle::KekFile::parse(&fs::read_to_string(&file)?)?;
            let fingerprint = hex::encode(kek.fingerprint());
            self.kek(&["import", text(&file)?, "--kek", &fingerprint])?;
        }
        Ok(made)
    }

    /// Makes the one-time key that the next ceremony encrypts its key-encryption key to; its fingerprint.
    fn open_import(&self) -> Result<String> {
        let attended = self.attended_pin();
        if !attended.exists() {
            // Until the token is the service's, what the service has as its PIN is not the token's.
            let services = self.dir.join("token").join("user.pin");
            fs::copy(&services, attended)?;
            fs::write(services, "not the token's yet\n")?;
        }
        let pem = self.dir.join("ceremony").join("wrapping-key.pem");
        if pem.exists() {
            fs::remove_file(&pem)?;
        }
        let said = self.kek(&["open", "--pem", text(&pem)?])?;
        let lines = said.lines().filter_map(|line| line.split_at_checked(13));
        let lines = lines.skip_while(|(name, _)| name.trim() != "fingerprint").take(4);
        Ok(lines.map(|(_, digits)| digits).collect())
    }

    fn kek(&self, arguments: &[&str]) -> Result<String> {
        let attended = self.attended_pin();
        self.signer(&[&["kek", "--pin-file", text(&attended)?], arguments].concat())
    }

    /// The token gets a PIN that whoever imported keys does not have, as the service did not have theirs.
    fn leave_token_to_service(&self) -> Result<()> {
        let new = self.dir.join("signer").join("new.pin");
        fs::copy(self.attended_pin(), &new)?;
        fs::write(&new, "the service's own\n")?;
        let attended = self.attended_pin();
        let (old, new_file) = (text(&attended)?, text(&new)?);
        self.signer(&["set-pin", "--old-pin-file", old, "--new-pin-file", new_file])?;
        fs::remove_file(new)?;
        Ok(())
    }

    fn attended_pin(&self) -> PathBuf {
        self.dir.join("ceremony").join("attended.pin")
    }

    /// Writes the policy that names the wallets and has the officer sign it.
    pub fn sign_policy(&mut self) -> Result<PathBuf> {
        self.shop = people::make_key(&self.programs, &self.dir, "shop")?;
        let Descriptors { deposits, hot, cold } = &self.descriptors;
        let tier = self.tier.name();
        let values = [
            ("deposits", deposits.as_str()),
            ("hot", hot),
            ("cold", cold),
            ("shop", &self.shop),
            ("tier", tier),
        ];
        let policy = self.dir.join("signer").join("policy.toml");
        let mut filled = fill(include_str!("policy.toml"), &values)?;
        if let Some(section) = &self.witness {
            filled = format!("witnesses_required = 1\n{filled}\n{section}");
        }
        fs::write(&policy, filled)?;
        people::sign_policy(&self.programs, &self.dir, "alice", &policy)?;
        Ok(policy)
    }

    /// Makes a witness, which the policy will require.
    pub fn appoint_witness(&mut self) -> Result<()> {
        let (dir, key) = (self.witness_dir(), &self.token.checkpoint);
        let making = ["witness", "init", "--dir", text(&dir)?, "--name", WITNESS, "--log-key", key];
        let said = self.programs.run("officer", &making)?;
        let at = said.find("[[witness]]").context("officer printed no [[witness]] section")?;
        self.witness = said.get(at..).map(str::to_owned);
        Ok(())
    }

    /// Lets the witness visit the signer.
    pub(super) fn start_witness(&self, signer: &str) -> Result<Process> {
        let credential = self.credentials.get(WITNESS).context("no witness was appointed")?;
        let mut command = self.programs.command("officer");
        command.args(["witness", "run", "--signer", signer, "--server-name", "localhost", "--dir"]);
        command.arg(self.witness_dir());
        command.arg("--certificate").arg(&credential.cert);
        command.arg("--certificate-key").arg(&credential.key);
        command.arg("--ca").arg(&credential.ca);
        Process::spawn("witness", command, &self.dir.join("officer").join("witness.log"))
    }

    fn witness_dir(&self) -> PathBuf {
        self.dir.join("officer").join(WITNESS)
    }

    /// Has the signer take in both bundles.
    pub fn import(&self) -> Result<()> {
        for wallet in ["deposits", "hot"] {
            self.signer(&["import", text(&keys::bundle(&self.dir, wallet))?])?;
        }
        Ok(())
    }

    /// The token's and the signer's folder are gone; a new token gets its keys, and the same configuration names it.
    pub(super) fn lose_token(&mut self) -> Result<()> {
        fs::remove_dir_all(self.dir.join("token"))?;
        fs::remove_dir_all(self.dir.join("signer").join("state"))?;
        let section =
            self.programs.run("softhsm-setup", &["--dir", text(&self.dir.join("token"))?])?;
        let config = fs::read_to_string(self.signer_config())?;
        let (ours, _) = config.split_once("[token]").context("no token is configured")?;
        fs::write(self.signer_config(), format!("{ours}{section}"))?;
        self.make_keys()
    }

    pub(super) fn signer_config(&self) -> PathBuf {
        self.dir.join("signer").join("signer.toml")
    }

    pub(super) fn watcher_config(&self) -> PathBuf {
        self.dir.join("watcher").join("watcher.toml")
    }

    pub(super) fn signer(&self, arguments: &[&str]) -> Result<String> {
        let config = self.signer_config();
        let mut all = vec!["--config", text(&config)?];
        all.extend(arguments);
        self.programs.run("signer", &all)
    }
}

impl TokenFacts {
    /// Reads what `signer init` prints: names in the first column; the fingerprint goes on over four lines.
    fn read(said: &str) -> Result<Self> {
        let mut facts = Self::default();
        let mut name = "";
        for line in said.lines() {
            let (first, value) = line.split_at_checked(13).unwrap_or((line, ""));
            if !first.trim().is_empty() {
                name = first.trim();
            }
            let value = value.trim().to_owned();
            match name {
                "fingerprint" => facts.fingerprint.push(value),
                "sealing key" => facts.sealing.push(value),
                "attestation" if value.len() == 64 => facts.attestation = value,
                "checkpoint" if value.len() == 64 => facts.checkpoint = value,
                _ => {}
            }
        }
        let whole = facts.fingerprint.len() == 4
            && facts.sealing.len() == 4
            && facts.attestation.len() == 64
            && facts.checkpoint.len() == 64;
        whole
            .then_some(facts)
            .with_context(|| format!("`signer init` printed something unexpected:\n{said}"))
    }
}
