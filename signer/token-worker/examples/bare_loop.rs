//! The least that a sweep can cost on a token, in a bare loop over one session: unwrap, sign, destroy, verify for
//! wrapped children, sign and verify for a key that was born in it. `scripts/bench-sweep` runs one of these per token
//! worker beside the real service. Never used for coins.
//!
//! Waits for lines on standard input: `FIRST COUNT` does that many records of the bundle's external branch,
//! around from record 0 when they end (or as many signatures by the one key), and answers with how many verified.

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
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;
use secp256k1::{Message, PublicKey, SECP256K1, ecdsa::Signature};

/// What everybody signs.
const DIGEST: [u8; 32] = [0xb5; 32];

#[derive(Parser)]
struct Args {
    #[arg(long)]
    module: PathBuf,
    #[arg(long)]
    token_label: String,
    #[arg(long)]
    pin_file: PathBuf,
    /// A bundle whose children sign.
    #[arg(
        long,
        requires = "scheme",
        conflicts_with = "token_key",
        required_unless_present = "token_key"
    )]
    bundle: Option<PathBuf>,
    /// What the bundle's children are wrapped by: `rsa-oaep-sha1` or `aes-kwp`.
    #[arg(long)]
    scheme: Option<String>,
    /// Instead: the name of a key that was born in the token.
    #[arg(long)]
    token_key: Option<String>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let session = log_in(&args)?;
    let keys = Keys::find(&args, &session)?;
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (first, count) = line.split_once(' ').context("a line is FIRST COUNT")?;
        println!("{}", keys.sign(&session, first.parse()?, count.parse()?)?);
        std::io::stdout().flush()?;
    }
    Ok(())
}

/// What signs.
enum Keys {
    Children(Unwrapping, Vec<bundle::Record>),
    Born(ObjectHandle, PublicKey),
}

impl Keys {
    fn find(args: &Args, session: &Session) -> Result<Self> {
        if let Some(name) = &args.token_key {
            return born(session, name);
        }
        let bundle = args.bundle.as_ref().context("neither a bundle nor a key of the token")?;
        let mut file = File::open(bundle)?;
        let bundle = Bundle::open(&mut file)?;
        let records = bundle.header().count(false);
        let records: Vec<_> =
            (0..records).map(|at| bundle.read(&mut file, false, at)).collect::<Result<_, _>>()?;
        let scheme = bundle.header().fields().kind.scheme;
        let name = scheme.name();
        ensure!(
            args.scheme.as_deref() == Some(name),
            "the bundle's children are wrapped by {name}"
        );
        let unwrapping = match scheme {
            Scheme::RsaOaepSha1 => (oaep(), wrapping_key(session)?),
            Scheme::AesKwp => (Mechanism::AesKeyWrapPad, kek(session, &records)?),
            other => anyhow::bail!("no bare loop for {}", other.name()),
        };
        Ok(Self::Children(unwrapping, records))
    }

    /// That many signatures; how many verified, which is all or an error.
    fn sign(&self, session: &Session, first: usize, count: usize) -> Result<usize> {
        match self {
            Self::Born(key, public_key) => {
                for _ in 0..count {
                    let raw = session.sign(&Mechanism::Ecdsa, *key, &DIGEST)?;
                    verify(&raw, public_key)?;
                }
            }
            Self::Children(unwrapping, records) => {
                let first = first.checked_rem(records.len()).context("the bundle is empty")?;
                for record in records.iter().cycle().skip(first).take(count) {
                    one(session, unwrapping, record)?;
                }
            }
        }
        Ok(count)
    }
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
    let raw = session.sign(&Mechanism::Ecdsa, key, &DIGEST)?;
    session.destroy_object(key)?;
    verify(&raw, &record.public_key)
}

fn verify(raw: &[u8], public_key: &PublicKey) -> Result<()> {
    let mut signature = Signature::from_compact(raw)?;
    signature.normalize_s();
    SECP256K1.verify_ecdsa(&Message::from_digest(DIGEST), &signature, public_key)?;
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

/// The pair that `signer token-key generate` gave this name.
fn born(session: &Session, name: &str) -> Result<Keys> {
    let label = format!("cofferdam token-key {name}").into_bytes();
    let find = |class| -> Result<ObjectHandle> {
        let template = [Attribute::Class(class), Attribute::Label(label.clone())];
        let found = session.find_objects(&template)?;
        ensure!(found.len() == 1, "expected one token key \"{name}\", found {}", found.len());
        found.first().copied().context("no such token key")
    };
    let public = find(ObjectClass::PUBLIC_KEY)?;
    let point = session.get_attributes(public, &[AttributeType::EcPoint])?;
    let Some(Attribute::EcPoint(point)) = point.first() else {
        anyhow::bail!("token key \"{name}\" shows no point");
    };
    // An octet string (DER) of 65 bytes.
    let point = point.get(2..).context("a point without bytes")?;
    Ok(Keys::Born(find(ObjectClass::PRIVATE_KEY)?, PublicKey::from_slice(point)?))
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
