//! `ceremony create`: entropy, shares, account, wrapped children, signature, and the file read back. It never keeps
//! the seed: an account made without shares cannot be extended or recovered, so there is none on mainnet.

use std::io::{BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;

use bundle::{Fields, Header, KekFile, Kind, Network, Scheme, Verifier, Writer};

use slip39::Mnemonic;

use crate::account::Account;
use crate::backup::{Backup, HandedOver};
use crate::earlier::Earlier;
use crate::inspect::Description;
use crate::kek::Kek;
use crate::new_file::NewFile;
use crate::transcript::Transcript;
use crate::wrapping::{Confirmed, Wrapper};
use crate::{Error, children, sealing};

/// What is to be made.
#[derive(Debug)]
pub struct Plan {
    /// How keys are kept, and what addresses are.
    pub kind: Kind,
    /// The chain.
    pub network: Network,
    /// Account number.
    pub account: u32,
    /// Records on the external branch; 1 for a sealed account.
    pub external: u32,
    /// Records on the change branch; 0 for a sealed account.
    pub change: u32,
    /// The token's key; for the scheme aes-kwp the one-time key that a key-encryption key is imported through.
    pub wrapping: Confirmed,
    /// Where the key-encryption key goes, encrypted to that key; must not exist. For the scheme aes-kwp alone.
    pub kek_out: Option<PathBuf>,
    /// Where the bundle goes; must not exist.
    pub out: PathBuf,
    /// Where the descriptor goes, if anywhere; must not exist.
    pub descriptor_out: Option<PathBuf>,
    /// Where the signed transcript goes, if anywhere; must not exist.
    pub transcript_out: Option<PathBuf>,
    /// Threads that derive and wrap.
    pub threads: usize,
}

/// What was made.
#[derive(Debug)]
pub struct Made {
    /// What the bundle says about itself.
    pub header: Header,
    /// The bundle's digest.
    pub digest: [u8; 32],
    /// What was done, signed by the account; see [`crate::transcript`].
    pub transcript: String,
}

/// Makes an account and its bundle, and forgets the seed. `on_record` is called after every record written.
///
/// # Errors
/// [`Error`], [`Error::Mainnet`] above all; then no file is left behind.
pub fn create(plan: &Plan, on_record: impl FnMut()) -> Result<Made, Error> {
    if plan.network == Network::Bitcoin {
        return Err(Error::Mainnet);
    }
    let mut transcript = Transcript::of("create");
    transcript.note("shares", "none: this account cannot be recovered");
    let born = || Ok((Account::generate(plan.kind.script, plan.network, plan.account)?, None));
    make(plan, transcript, born, None, on_record)
}

/// Makes an account, shares of its seed, and its bundle. `hand_over` gives the shares to people or files before
/// the first child is wrapped.
///
/// # Errors
/// [`Error`]; then no file is left behind, and the shares that were handed over are of no account.
pub fn create_with_shares(
    plan: &Plan,
    mut backup: Backup,
    hand_over: impl FnOnce(&[Vec<Mnemonic>]) -> Result<HandedOver, Error>,
    on_record: impl FnMut(),
) -> Result<Made, Error> {
    if plan.network == Network::Bitcoin && backup.pool.is_rehearsal() {
        return Err(Error::Rehearsal);
    }
    let mut transcript = Transcript::of("create");
    backup.describe(&mut transcript);
    let born = || {
        let (seed, shares) = backup.make()?;
        let account = {
            let script = plan.kind.script;
            Account::from_seed(seed.as_ref(), script, plan.network, plan.account)?
        };
        Ok((account, Some(hand_over(&shares)?)))
    };
    make(plan, transcript, born, None, on_record)
}

/// Wraps an account's children into a new bundle, but for those that `kept` has wrapped already. The account is made
/// once the files are begun.
pub(crate) fn make(
    plan: &Plan,
    mut transcript: Transcript,
    account: impl FnOnce() -> Result<(Account, Option<HandedOver>), Error>,
    kept: Option<&Earlier>,
    mut on_record: impl FnMut(),
) -> Result<Made, Error> {
    refuse(plan)?;
    let out = NewFile::create(&plan.out)?;
    let descriptor_out = plan.descriptor_out.as_deref().map(NewFile::create).transpose()?;
    let kek_out = plan.kek_out.as_deref().map(NewFile::create_private).transpose()?;
    let transcript_out = plan.transcript_out.as_deref().map(NewFile::create).transpose()?;

    let (account, shares) = account()?;
    let under_a_key = plan.kind.scheme == Scheme::AesKwp;
    let kek = under_a_key.then(|| Kek::generate(&account)).transpose()?;
    let header = Header::new(Fields {
        kind: plan.kind,
        network: plan.network,
        account: plan.account,
        xpub: account.xpub(),
        master: account.master_fingerprint(),
        wrapping: kek.as_ref().map_or_else(|| plan.wrapping.fingerprint(), Kek::fingerprint),
        external: plan.external,
        change: plan.change,
        blob_len: plan.kind.scheme.blob_len(plan.wrapping.rsa_len()),
    })?;

    let mut writer = Writer::new(BufWriter::new(out.file()), header.clone())?;
    let mut write = |record| {
        writer.push(&record)?;
        on_record();
        Ok(())
    };
    if plan.kind.scheme.is_sealed() {
        write(sealing::record(&account, &plan.wrapping, &header)?)?;
    } else {
        let wrapper = Wrapper::new(&plan.wrapping, kek.as_ref());
        children::for_each(&account, &wrapper, &header, plan.threads, kept, write)?;
    }
    let (_, digest) = writer.finish(|digest| account.sign(digest))?;
    transcript.text(&Description(&header).to_string());
    transcript.note("bundle", &hex::encode(digest));
    if kek.is_some() {
        transcript.note("import key", &hex::encode(plan.wrapping.fingerprint()));
    }
    let transcript = transcript.sign(&account)?;
    drop(account);

    read_back(&out, digest)?;
    if let Some(file) = &descriptor_out {
        writeln!(file.file(), "{}", header.descriptor()).map_err(|error| file.error(error))?;
    }
    if let (Some(file), Some(kek)) = (&kek_out, &kek) {
        let text = kek.hand_over(&plan.wrapping)?.to_text();
        file.file().write_all(text.as_bytes()).map_err(|error| file.error(error))?;
        read_back_kek(file, &text)?;
    }
    if let Some(file) = &transcript_out {
        file.file().write_all(transcript.as_bytes()).map_err(|error| file.error(error))?;
    }
    // A bundle never stays without its shares, nor either without the transcript that says so.
    let mut files = shares.map_or_else(Vec::new, HandedOver::files);
    files.extend([Some(out), kek_out, descriptor_out, transcript_out].into_iter().flatten());
    NewFile::keep_all(files)?;
    Ok(Made { header, digest, transcript })
}

/// What cannot be made, or could be used by nobody.
fn refuse(plan: &Plan) -> Result<(), Error> {
    match (plan.kind.scheme, &plan.kek_out) {
        (Scheme::AesKwp, None) => Err(Error::KekFile(
            "the scheme aes-kwp makes a key-encryption key: say with --kek-out where it goes",
        )),
        (Scheme::AesKwp, Some(_)) => Ok(()),
        (_, Some(_)) => Err(Error::KekFile("--kek-out is for the scheme aes-kwp alone")),
        (Scheme::RsaAesSha1 | Scheme::RsaAesSha256, None) if plan.network == Network::Bitcoin => {
            Err(Error::NoSigner(plan.kind.scheme.name()))
        }
        (_, None) => Ok(()),
    }
}

/// The same for the key-encryption key, which nobody could make again.
fn read_back_kek(file: &NewFile, written: &str) -> Result<(), Error> {
    let mut text = String::new();
    let mut reader = file.file();
    reader
        .seek(SeekFrom::Start(0))
        .and_then(|_| reader.read_to_string(&mut text))
        .map_err(|error| file.error(error))?;
    if text == written {
        KekFile::parse(&text).map(drop).map_err(Error::from)
    } else {
        Err(Error::ReadBack)
    }
}

/// Reads what was written, all of it, before anybody relies on it.
fn read_back(out: &NewFile, digest: [u8; 32]) -> Result<(), Error> {
    let mut file = out.file();
    file.seek(SeekFrom::Start(0)).map_err(|error| out.error(error))?;
    let bundle = Verifier::new(BufReader::new(file))?.finish()?;
    if bundle.digest() == digest { Ok(()) } else { Err(Error::ReadBack) }
}
