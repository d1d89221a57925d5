//! A key in a token: found by its label, made there so that it cannot leave, and asked to sign. Every signature is verified
//! here before anybody else sees it.

use anyhow::{Context as _, Result, bail, ensure};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use policy::p256::{Point, lower};
use policy::people::OfficerKey;
use sha2::{Digest as _, Sha256};

use super::login;
use super::place::Place;
use crate::key::{Kind, fill};

/// DER of the curves' names.
const ED25519: [u8; 5] = [0x06, 0x03, 0x2b, 0x65, 0x70];
const P256: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];

/// A key, with the session that may use it.
pub(crate) struct TokenKey {
    session: Session,
    private: ObjectHandle,
    public: OfficerKey,
}

impl TokenKey {
    /// Logs in and finds it.
    pub(crate) fn open(place: &Place) -> Result<Self> {
        let session = login::open(place, false)?;
        let (private, public) = {
            let one = |class| one(&session, class, &place.object);
            (one(ObjectClass::PRIVATE_KEY)?, one(ObjectClass::PUBLIC_KEY)?)
        };
        let asks = session.get_attributes(private, &[AttributeType::AlwaysAuthenticate]);
        let asks = asks.is_ok_and(|found| found.contains(&Attribute::AlwaysAuthenticate(true)));
        ensure!(
            !asks,
            "this key wants its PIN again for each signature: `officer` sends it once, and cannot use it"
        );
        let public = read(&session, public)?;
        Ok(Self { session, private, public })
    }

    /// Makes a key that can neither be read nor taken out of the token. What the token made otherwise is destroyed again.
    pub(crate) fn make(place: &Place, kind: Kind) -> Result<Self> {
        let session = login::open(place, true)?;
        for class in [ObjectClass::PRIVATE_KEY, ObjectClass::PUBLIC_KEY] {
            ensure!(
                objects(&session, class, &place.object)?.is_empty(),
                "the token has a key with the label \"{}\" already: nothing is overwritten",
                place.object
            );
        }
        let (mechanism, curve) = match kind {
            Kind::Ed25519 => (Mechanism::EccEdwardsKeyPairGen, ED25519.to_vec()),
            Kind::P256 => (Mechanism::EccKeyPairGen, P256.to_vec()),
        };
        let (of_public, of_private) = templates(&place.object, curve)?;
        let made = session.generate_key_pair(&mechanism, &of_public, &of_private);
        let (public, private) =
            made.with_context(|| format!("the token makes no {} key", kind.name()))?;
        match Self::accept(session, public, private) {
            Ok(key) => Ok(key),
            Err((session, error)) => {
                let gone = [private, public].map(|object| session.destroy_object(object).is_ok());
                let after = if gone == [true; 2] { "it was destroyed" } else { "REMOVE IT" };
                Err(error.context(format!("the token made a key that is no good; {after}")))
            }
        }
    }

    /// A fresh key, if it is what was asked for and its halves belong together.
    fn accept(
        session: Session,
        public: ObjectHandle,
        private: ObjectHandle,
    ) -> Result<Self, (Session, anyhow::Error)> {
        let looked = is_kept(&session, private).and_then(|()| read(&session, public));
        let public = match looked {
            Ok(public) => public,
            Err(error) => return Err((session, error)),
        };
        let key = Self { session, private, public };
        match key.sign(b"cofferdam: a new key's first signature") {
            Ok(_) => Ok(key),
            Err(error) => Err((key.session, error)),
        }
    }

    /// The public half.
    pub(crate) fn public(&self) -> OfficerKey {
        self.public
    }

    /// Has the token sign, and verifies what it gives.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<[u8; 64]> {
        let ed25519 = Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Ed25519));
        let signed = match self.public {
            OfficerKey::Ed25519(_) => self.session.sign(&ed25519, self.private, message),
            OfficerKey::P256(_) => {
                self.session.sign(&Mechanism::Ecdsa, self.private, &Sha256::digest(message))
            }
        };
        let signed = signed.context("the token did not sign")?;
        let signed: [u8; 64] =
            signed.as_slice().try_into().context("the token's signature has no 64 bytes")?;
        let signature = match self.public {
            OfficerKey::Ed25519(_) => signed,
            OfficerKey::P256(_) => lower(&signed),
        };
        ensure!(
            self.public.verifies(message, &signature),
            "the token's signature is not by the public key that it shows"
        );
        Ok(signature)
    }
}

/// What both halves are made with.
fn templates(label: &str, curve: Vec<u8>) -> Result<(Vec<Attribute>, Vec<Attribute>)> {
    let mut id = [0; 16];
    fill(&mut id)?;
    let named = |more: Vec<Attribute>| {
        let label = Attribute::Label(label.as_bytes().to_vec());
        [vec![Attribute::Token(true), label, Attribute::Id(id.to_vec())], more].concat()
    };
    let public =
        vec![Attribute::Private(false), Attribute::Verify(true), Attribute::EcParams(curve)];
    let private = vec![
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Sign(true),
    ];
    Ok((named(public), named(private)))
}

/// Whether the token says that the key was born there and cannot leave.
fn is_kept(session: &Session, private: ObjectHandle) -> Result<()> {
    let wanted = [
        Attribute::Sensitive(true),
        Attribute::AlwaysSensitive(true),
        Attribute::Extractable(false),
        Attribute::NeverExtractable(true),
        Attribute::Local(true),
    ];
    let kinds: Vec<AttributeType> = wanted.iter().map(Attribute::attribute_type).collect();
    let found = session.get_attributes(private, &kinds).context("the token hides the key")?;
    for attribute in &wanted {
        ensure!(found.contains(attribute), "it is not {attribute:?}");
    }
    Ok(())
}

fn objects(session: &Session, class: ObjectClass, label: &str) -> Result<Vec<ObjectHandle>> {
    let template = [Attribute::Class(class), Attribute::Label(label.as_bytes().to_vec())];
    session.find_objects(&template).context("the token lists no objects")
}

fn one(session: &Session, class: ObjectClass, label: &str) -> Result<ObjectHandle> {
    let what = if class == ObjectClass::PRIVATE_KEY { "private" } else { "public" };
    match objects(session, class, label)?.as_slice() {
        [one] => Ok(*one),
        [] => bail!("the token has no {what} key with the label \"{label}\""),
        _ => bail!("the token has more than one {what} key with the label \"{label}\""),
    }
}

/// The public half, as the token shows it.
fn read(session: &Session, public: ObjectHandle) -> Result<OfficerKey> {
    let kinds = [AttributeType::KeyType, AttributeType::EcParams, AttributeType::EcPoint];
    let found = session.get_attributes(public, &kinds).context("the token hides a public key")?;
    let (mut kind, mut curve, mut point) = (None, Vec::new(), Vec::new());
    for attribute in found {
        match attribute {
            Attribute::KeyType(found) => kind = Some(found),
            Attribute::EcParams(found) => curve = found,
            Attribute::EcPoint(found) => point = found,
            _ => {}
        }
    }
    let key = match kind {
        Some(KeyType::EC_EDWARDS) => {
            raw(&point, 32).and_then(|raw| raw.try_into().ok()).map(OfficerKey::Ed25519)
        }
        Some(KeyType::EC) if curve == P256 => {
            raw(&point, 65).and_then(compress).map(OfficerKey::P256)
        }
        _ => bail!("it is neither an Ed25519 nor a P-256 key"),
    };
    key.filter(OfficerKey::is_valid).context("its public half is no point of its curve")
}

/// The point itself: tokens give it in an OCTET STRING of DER, and some without.
fn raw(point: &[u8], length: usize) -> Option<&[u8]> {
    let inner = match point.split_at_checked(2) {
        Some(([4, count], inner)) if usize::from(*count) == inner.len() => inner,
        _ => point,
    };
    (inner.len() == length).then_some(inner)
}

fn compress(uncompressed: &[u8]) -> Option<Point> {
    let x = uncompressed.get(1..33)?;
    let sign = if uncompressed.last()? & 1 == 1 { 3 } else { 2 };
    let compressed = [[sign].as_slice(), x].concat().try_into().ok()?;
    Point::read(&compressed).filter(|point| point.uncompressed().as_slice() == uncompressed)
}
