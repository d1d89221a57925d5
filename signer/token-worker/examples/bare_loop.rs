//! The least that a sweep can cost on a token: unwrap, sign, destroy, verify, in a bare loop over one session.
//! `scripts/bench-sweep` runs one of these per token worker beside the real service. Never used for coins.
//!
//! Waits for lines on standard input: `FIRST COUNT` does that many records of the bundle's external branch,
//! around from record 0 when they end, and answers with how many signatures verified.

#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::fs::File;
use std::io::{BufRead as _, Write as _};
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use bundle::{Bundle, Scheme};
use clap::Parser;
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsOaepParams, PkcsOaepSource};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;
use secp256k1::{Message, SECP256K1, ecdsa::Signature};

#[derive(Parser)]
struct Args {
    #[arg(long)]
    module: PathBuf,
    #[arg(long)]
    token_label: String,
    #[arg(long)]
    pin_file: PathBuf,
    #[arg(long)]
    bundle: PathBuf,
    /// What the bundle's children are wrapped by: `rsa-oaep-sha1` or `aes-kwp`.
    #[arg(long)]
    scheme: String,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let mut file = File::open(&args.bundle)?;
    let bundle = Bundle::open(&mut file)?;
    let records = bundle.header().count(false);
    let records: Vec<_> =
        (0..records).map(|at| bundle.read(&mut file, false, at)).collect::<Result<_, _>>()?;
    let session = log_in(&args)?;
    let scheme = bundle.header().fields().kind.scheme;
    ensure!(scheme.name() == args.scheme, "the bundle's children are wrapped by {}", scheme.name());
    let unwrapping = match scheme {
        Scheme::RsaOaepSha1 => (oaep(), wrapping_key(&session)?),
        Scheme::AesKwp => (Mechanism::AesKeyWrapPad, kek(&session, &records)?),
        other => anyhow::bail!("no bare loop for {}", other.name()),
    };
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (first, count) = line.split_once(' ').context("a line is FIRST COUNT")?;
        let (first, count): (usize, usize) = (first.parse()?, count.parse()?);
        let mut done = 0_u64;
        for record in records
            .iter()
            .cycle()
            .skip(first.checked_rem(records.len()).context("the bundle is empty")?)
            .take(count)
        {
            one(&session, &unwrapping, record)?;
            done = done.saturating_add(1);
        }
        println!("{done}");
        std::io::stdout().flush()?;
    }
    Ok(())
}

/// What children are unwrapped by.
type Unwrapping = (Mechanism<'static>, ObjectHandle);

fn oaep() -> Mechanism<'static> {
    let hash = (MechanismType::SHA1, PkcsMgfType::MGF1_SHA1);
    Mechanism::RsaPkcsOaep(PkcsOaepParams::new(hash.0, hash.1, PkcsOaepSource::empty()))
}

fn one(
    session: &Session,
    (mechanism, wrapping): &Unwrapping,
    record: &bundle::Record,
) -> Result<()> {
    let key = session.unwrap_key(mechanism, *wrapping, &record.wrapped, &child())?;
    let digest = [0xb5; 32];
    let raw = session.sign(&Mechanism::Ecdsa, key, &digest)?;
    session.destroy_object(key)?;
    let mut signature = Signature::from_compact(&raw)?;
    signature.normalize_s();
    SECP256K1.verify_ecdsa(&Message::from_digest(digest), &signature, &record.public_key)?;
    Ok(())
}

fn log_in(args: &Args) -> Result<Session> {
    let pkcs11 = Pkcs11::new(&args.module)?;
    pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))?;
    for slot in pkcs11.get_slots_with_token()? {
        if pkcs11.get_token_info(slot)?.label() == args.token_label {
            let session = pkcs11.open_ro_session(slot)?;
            let pin = std::fs::read_to_string(&args.pin_file)?;
            session.login(UserType::User, Some(&AuthPin::from(pin.trim_end())))?;
            return Ok(session);
        }
    }
    anyhow::bail!("no token is called {}", args.token_label)
}

/// By its label, as `signer init` gives it: what unwraps the keys of sealed accounts is RSA as well.
fn wrapping_key(session: &Session) -> Result<ObjectHandle> {
    let label = "cofferdam wrapping 1";
    let template =
        [Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::Label(label.as_bytes().to_vec())];
    let found = session.find_objects(&template)?;
    ensure!(found.len() == 1, "expected one key \"{label}\" in the token, found {}", found.len());
    found.first().copied().with_context(|| format!("no key \"{label}\" in the token"))
}

/// The key-encryption key that opens the first record; each wallet has one of its own.
fn kek(session: &Session, records: &[bundle::Record]) -> Result<ObjectHandle> {
    let first = records.first().context("the bundle is empty")?;
    let template = [Attribute::Class(ObjectClass::SECRET_KEY), Attribute::KeyType(KeyType::AES)];
    for key in session.find_objects(&template)? {
        if one(session, &(Mechanism::AesKeyWrapPad, key), first).is_ok() {
            return Ok(key);
        }
    }
    anyhow::bail!("no key-encryption key in the token opens this bundle")
}

/// What the unwrap template demands of every child; see `unwrap_template.rs`.
fn child() -> [Attribute; 12] {
    [
        Attribute::Class(ObjectClass::PRIVATE_KEY),
        Attribute::KeyType(KeyType::EC),
        Attribute::Token(false),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Sign(true),
        Attribute::Derive(false),
        Attribute::Decrypt(false),
        Attribute::Unwrap(false),
        Attribute::Copyable(false),
        Attribute::Modifiable(false),
    ]
}
