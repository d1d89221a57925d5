//! The token's own keys: found by their public halves (never by a label alone), made where `signer init` finds
//! none, checked attribute by attribute. It never takes one of two that claim to be the same.

use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use token_wire::{BORN_MAX, Counters, Fault, FaultCode, Keys, Schemes, StatementKey};

use crate::der;
use crate::expect::{bytes, check_born, check_statement, check_wrapping};
use crate::fault;
use crate::numbers;
use crate::session::Session;
use crate::unwrap_template::{WRAPPING_MECHANISM, child, kek, opener, with_attribute};

/// Bits of a key that unwraps.
const WRAPPING_BITS: u64 = 3072;

/// The RSA keys that unwrap.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unwrapping {
    /// Children of `token-hd` accounts.
    Wrapping,
    /// The AES keys of `sealed-hd` accounts.
    Sealing,
    /// One key-encryption key; there only while it is imported.
    Import,
}

impl Unwrapping {
    fn name(self) -> &'static str {
        match self {
            Self::Wrapping => "wrapping",
            Self::Sealing => "sealing",
            Self::Import => "import",
        }
    }

    pub(crate) fn label(self) -> String {
        format!("cofferdam {} 1", self.name())
    }

    pub(crate) fn template(self) -> Vec<Attribute> {
        match self {
            Self::Wrapping => child(),
            Self::Sealing => opener(),
            Self::Import => kek(),
        }
    }
}

/// Whether keys are bound for an import of a key-encryption key or for service.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Import {
    /// For people who import: statements alone are signed.
    MayBeOpen,
    /// For service.
    MustBeOver,
}

/// Handles of the keys, found once, and their public halves.
pub(crate) struct KeyRing {
    pub(crate) wrapping: ObjectHandle,
    pub(crate) attestation: ObjectHandle,
    pub(crate) checkpoint: ObjectHandle,
    /// Tokens that an older signer initialised have none.
    pub(crate) sealing: Option<ObjectHandle>,
    /// Keys for coins, by their public halves.
    pub(crate) born: Vec<(Vec<u8>, ObjectHandle)>,
    /// Key-encryption keys by their fingerprints; none unless the settings have them.
    pub(crate) keks: Vec<([u8; 32], ObjectHandle)>,
    pub(crate) public: Keys,
}

impl KeyRing {
    /// Every attribute is still what it must be.
    pub(crate) fn check(&self, session: &Session) -> Result<(), Fault> {
        check_wrapping(session, self.wrapping, "wrapping key", &child())?;
        if let Some(sealing) = self.sealing {
            check_wrapping(session, sealing, "sealing key", &opener())?;
        }
        check_statement(session, self.attestation, "attestation key")?;
        check_statement(session, self.checkpoint, "checkpoint key")?;
        for (public_key, key) in &self.born {
            check_born(session, *key, &born_name(public_key))?;
        }
        Ok(())
    }

    /// The key for coins with this public half.
    pub(crate) fn born(&self, public_key: &[u8]) -> Result<ObjectHandle, Fault> {
        let found = self.born.iter().find(|(public, _)| public == public_key);
        let text = "a key for coins that is not bound";
        found.map(|(_, key)| *key).ok_or_else(|| Fault::new(FaultCode::BadRequest, text))
    }
}

/// Finds and makes keys in one session, counting its searches.
pub(crate) struct Finder<'a> {
    pub(crate) session: &'a Session,
    pub(crate) counters: &'a mut Counters,
}

impl Finder<'_> {
    /// Finds exactly these keys and checks them.
    pub(crate) fn bind(
        &mut self,
        keys: &Keys,
        schemes: &Schemes,
        import: Import,
    ) -> Result<KeyRing, Fault> {
        if import == Import::MustBeOver {
            self.refuse_open_import()?;
        }
        let sealing = keys.sealing_spki.as_deref();
        if keys.born.len() > BORN_MAX {
            return Err(Fault::new(FaultCode::BadRequest, "more keys for coins than there may be"));
        }
        let born = self.born_with(&keys.born)?;
        let ring = KeyRing {
            born,
            wrapping: self.unwrapping_with(Unwrapping::Wrapping, &keys.wrapping_spki)?,
            sealing: sealing
                .map(|spki| self.unwrapping_with(Unwrapping::Sealing, spki))
                .transpose()?,
            attestation: self.statement_with(StatementKey::Attestation, &keys.attestation)?,
            checkpoint: self.statement_with(StatementKey::Checkpoint, &keys.checkpoint)?,
            keks: match schemes.kwp_mechanism {
                Some(number) => self.keks(&keys.keks, &keys.forgotten_keks, number)?,
                None => Vec::new(),
            },
            public: keys.clone(),
        };
        ring.check(self.session)?;
        Ok(ring)
    }

    /// Makes the keys whose labels the token lacks, then binds to whatever has the labels. Names those made.
    pub(crate) fn init(&mut self, schemes: &Schemes) -> Result<(KeyRing, Vec<String>), Fault> {
        let mut made = Vec::new();
        for key in [Unwrapping::Wrapping, Unwrapping::Sealing] {
            if self.labelled(&key.label())?.is_none() {
                self.make_unwrapping(key)?;
                made.push(key.name().to_owned());
            }
        }
        for key in [StatementKey::Attestation, StatementKey::Checkpoint] {
            if self.labelled(&label(key))?.is_none() {
                self.make_statement(key)?;
                made.push(key.to_string());
            }
        }
        let public = Keys {
            wrapping_spki: self.labelled_spki(Unwrapping::Wrapping)?,
            sealing_spki: Some(self.labelled_spki(Unwrapping::Sealing)?),
            attestation: self.labelled_point(StatementKey::Attestation)?,
            checkpoint: self.labelled_point(StatementKey::Checkpoint)?,
            // These are found by `signer token-key generate`, each by its name.
            born: Vec::new(),
            keks: Vec::new(),
            forgotten_keks: Vec::new(),
        };
        // Which key-encryption keys there should be is not known here: the next bind looks at them.
        let schemes = Schemes { kwp_mechanism: None, ..*schemes };
        Ok((self.bind(&public, &schemes, Import::MustBeOver)?, made))
    }

    /// The one private RSA key with this public half.
    fn unwrapping_with(&mut self, which: Unwrapping, spki: &[u8]) -> Result<ObjectHandle, Fault> {
        let all = self.find(&[
            Attribute::Class(ObjectClass::PRIVATE_KEY),
            Attribute::KeyType(KeyType::RSA),
            Attribute::Token(true),
        ])?;
        let mut matching = Vec::new();
        for key in all {
            if self.spki(key)? == spki {
                matching.push(key);
            }
        }
        only(&matching, &format!("{} key", which.name()))
    }

    /// The one private Ed25519 key that belongs to the one public key with this point. Private keys do not
    /// show their point, so the pair's common id leads from one to the other; that it is truly the other half
    /// is shown by a signature that the signer verifies.
    fn statement_with(
        &mut self,
        key: StatementKey,
        point: &[u8; 32],
    ) -> Result<ObjectHandle, Fault> {
        let all = self.find(&[
            Attribute::Class(ObjectClass::PUBLIC_KEY),
            Attribute::KeyType(KeyType::EC_EDWARDS),
            Attribute::Token(true),
        ])?;
        let mut matching = Vec::new();
        for public in all {
            if self.point(public)? == *point {
                matching.push(public);
            }
        }
        let public = only(&matching, &format!("{key} key's public half"))?;
        self.private_of(public, KeyType::EC_EDWARDS, &format!("{key} key"))
    }

    /// The keys for coins with these public halves, found as those for statements are.
    fn born_with(&mut self, wanted: &[Vec<u8>]) -> Result<Vec<(Vec<u8>, ObjectHandle)>, Fault> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let all = self.find(&[
            Attribute::Class(ObjectClass::PUBLIC_KEY),
            Attribute::KeyType(KeyType::EC),
            Attribute::Token(true),
        ])?;
        let mut points = Vec::new();
        for public in all {
            // Keys of other curves have points of other lengths.
            let point = bytes(self.session, public, AttributeType::EcPoint)?;
            points.extend(der::compressed(&point).map(|point| (point, public)));
        }
        let mut found = Vec::new();
        for public_key in wanted {
            let name = born_name(public_key);
            let same = points.iter().filter(|(point, _)| point == public_key);
            let same: Vec<ObjectHandle> = same.map(|(_, public)| *public).collect();
            let public = only(&same, &format!("{name}'s public half"))?;
            found.push((public_key.clone(), self.private_of(public, KeyType::EC, &name)?));
        }
        Ok(found)
    }

    /// The one private key that has its id in common with a public one.
    fn private_of(
        &mut self,
        public: ObjectHandle,
        kind: KeyType,
        name: &str,
    ) -> Result<ObjectHandle, Fault> {
        let id = bytes(self.session, public, AttributeType::Id)?;
        let private = self.find(&[
            Attribute::Class(ObjectClass::PRIVATE_KEY),
            Attribute::KeyType(kind),
            Attribute::Token(true),
            Attribute::Id(id),
        ])?;
        only(&private, name)
    }

    /// Makes a key for coins, unless one was made under this name before; returns its public half. What was there is
    /// looked at when it is bound, as is what was made.
    pub(crate) fn make_born(&mut self, name: &str) -> Result<(Vec<u8>, bool), Fault> {
        let label = format!("cofferdam token-key {name}");
        let new = self.labelled(&label)?.is_none();
        if new {
            let made = make_born(self.session, &label, &[]);
            made.map(drop).map_err(|fault| making(name, fault))?;
        }
        let found = self.find(&[
            Attribute::Class(ObjectClass::PUBLIC_KEY),
            Attribute::Token(true),
            Attribute::Label(label.into_bytes()),
        ])?;
        let public = only(&found, &format!("token key {name}'s public half"))?;
        let point = bytes(self.session, public, AttributeType::EcPoint)?;
        let text = format!("token key {name} has no point of 65 bytes");
        let unreadable = || Fault::new(FaultCode::KeyUnsafe, text);
        Ok((der::compressed(&point).ok_or_else(unreadable)?, new))
    }

    fn make_unwrapping(&mut self, key: Unwrapping) -> Result<(), Fault> {
        let made = make_unwrapping(self.session, key, &key.label(), &[]);
        made.map(drop).map_err(|fault| making(key.name(), fault))
    }

    fn make_statement(&mut self, key: StatementKey) -> Result<(), Fault> {
        let made = make_statement(self.session, &label(key), &[]);
        made.map(drop).map_err(|fault| making(&key.to_string(), fault))
    }

    /// The private key with this label, if there is one.
    pub(crate) fn labelled(&mut self, label: &str) -> Result<Option<ObjectHandle>, Fault> {
        let found = self.find(&[
            Attribute::Class(ObjectClass::PRIVATE_KEY),
            Attribute::Token(true),
            Attribute::Label(label.as_bytes().to_vec()),
        ])?;
        if found.is_empty() { Ok(None) } else { only(&found, label).map(Some) }
    }

    fn labelled_spki(&mut self, which: Unwrapping) -> Result<Vec<u8>, Fault> {
        let name = || missing(&format!("{} key", which.name()));
        let key = self.labelled(&which.label())?.ok_or_else(name)?;
        self.spki(key)
    }

    fn labelled_point(&mut self, key: StatementKey) -> Result<[u8; 32], Fault> {
        let found = self.find(&[
            Attribute::Class(ObjectClass::PUBLIC_KEY),
            Attribute::Token(true),
            Attribute::Label(label(key).into_bytes()),
        ])?;
        let public = only(&found, &format!("{key} key's public half"))?;
        self.point(public)
    }

    pub(crate) fn spki(&self, key: ObjectHandle) -> Result<Vec<u8>, Fault> {
        Ok(der::rsa_spki(&bytes(self.session, key, AttributeType::Modulus)?))
    }

    fn point(&self, key: ObjectHandle) -> Result<[u8; 32], Fault> {
        let point = bytes(self.session, key, AttributeType::EcPoint)?;
        der::ed25519_point(&point)
            .ok_or_else(|| Fault::new(FaultCode::KeyUnsafe, "an Ed25519 key has no 32-byte point"))
    }

    pub(crate) fn find(&mut self, template: &[Attribute]) -> Result<Vec<ObjectHandle>, Fault> {
        self.counters.finds = self.counters.finds.saturating_add(1);
        self.session
            .find_objects(template)
            .map_err(|error| fault::token("search its objects", &error))
    }
}

/// A public and a private key.
pub(crate) type Pair = (ObjectHandle, ObjectHandle);

/// Makes a key that unwraps. `without` leaves attributes out, to see what a token wants; such a key passes no check.
pub(crate) fn make_unwrapping(
    session: &Session,
    key: Unwrapping,
    label: &str,
    without: &[AttributeType],
) -> Result<Pair, Fault> {
    let (id, label) = (new_id(session)?, label.as_bytes().to_vec());
    let public = vec![
        Attribute::Token(true),
        Attribute::Private(false),
        Attribute::ModulusBits(WRAPPING_BITS.into()),
        Attribute::PublicExponent(der::EXPONENT.to_vec()),
        Attribute::Encrypt(false),
        Attribute::Verify(false),
        Attribute::Wrap(true),
        Attribute::Id(id.clone()),
        Attribute::Label(label.clone()),
        Attribute::Destroyable(false),
        Attribute::Modifiable(false),
    ];
    with_attribute(&key.template(), |unwrap_template| {
        let mut private = private_template(id, label, WRAPPING_MECHANISM);
        private.extend([
            Attribute::Sign(false),
            Attribute::Unwrap(true),
            unwrap_template,
            Attribute::Modifiable(false),
        ]);
        make_pair(session, &Mechanism::RsaPkcsKeyPairGen, [public, private], without)
    })
}

/// Makes an Ed25519 key for statements; `without` as in [`make_unwrapping`].
pub(crate) fn make_statement(
    session: &Session,
    label: &str,
    without: &[AttributeType],
) -> Result<Pair, Fault> {
    let curve = der::ED25519_OID.to_vec();
    let (made_by, signs_by) = (numbers::eddsa_key_pair_gen(), numbers::eddsa_type());
    make_signing(session, label, curve, &made_by, signs_by, without)
}

/// Makes a secp256k1 key for coins; `without` as in [`make_unwrapping`].
pub(crate) fn make_born(
    session: &Session,
    label: &str,
    without: &[AttributeType],
) -> Result<Pair, Fault> {
    let curve = der::SECP256K1_OID.to_vec();
    let (made_by, signs_by) = (Mechanism::EccKeyPairGen, MechanismType::ECDSA);
    make_signing(session, label, curve, &made_by, signs_by, without)
}

/// What a key for coins is called where its name is not known.
pub(crate) fn born_name(public_key: &[u8]) -> String {
    let hex: String = public_key.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("token key {hex}")
}

/// Says which key it was.
fn making(key: &str, fault: Fault) -> Fault {
    Fault { text: format!("the {key} key: {}", fault.text), ..fault }
}

/// Makes a key that only signs, on any curve.
pub(crate) fn make_signing(
    session: &Session,
    label: &str,
    curve: Vec<u8>,
    made_by: &Mechanism,
    signs_by: MechanismType,
    without: &[AttributeType],
) -> Result<Pair, Fault> {
    let (id, label) = (new_id(session)?, label.as_bytes().to_vec());
    let public = vec![
        Attribute::Token(true),
        Attribute::Private(false),
        Attribute::EcParams(curve),
        Attribute::Verify(true),
        Attribute::Id(id.clone()),
        Attribute::Label(label.clone()),
        Attribute::Destroyable(false),
        Attribute::Modifiable(false),
    ];
    let mut private = private_template(id, label, signs_by);
    private.extend([Attribute::Sign(true), Attribute::Unwrap(false), Attribute::Modifiable(false)]);
    make_pair(session, made_by, [public, private], without)
}

fn make_pair(
    session: &Session,
    mechanism: &Mechanism,
    mut templates: [Vec<Attribute>; 2],
    without: &[AttributeType],
) -> Result<Pair, Fault> {
    for template in &mut templates {
        template.retain(|attribute| !without.contains(&attribute.attribute_type()));
    }
    let [public, private] = templates;
    session
        .generate_key_pair(mechanism, &public, &private)
        .map_err(|error| fault::token("make a key", &error))
}

fn new_id(session: &Session) -> Result<Vec<u8>, Fault> {
    session.generate_random_vec(16).map_err(|error| fault::token("make random bytes", &error))
}

/// What every private key of ours begins with.
fn private_template(id: Vec<u8>, label: Vec<u8>, mechanism: MechanismType) -> Vec<Attribute> {
    vec![
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Decrypt(false),
        Attribute::SignRecover(false),
        Attribute::Derive(false),
        Attribute::AllowedMechanisms(vec![mechanism]),
        Attribute::Id(id),
        Attribute::Label(label),
        Attribute::Copyable(false),
        Attribute::Destroyable(false),
    ]
}

fn label(key: StatementKey) -> String {
    format!("cofferdam {key} 1")
}

pub(crate) fn only(found: &[ObjectHandle], name: &str) -> Result<ObjectHandle, Fault> {
    match found {
        [key] => Ok(*key),
        [] => Err(missing(name)),
        several => Err(Fault::new(
            FaultCode::KeyAmbiguous,
            format!(
                "the token holds {} objects that claim to be the {name}; find out who made the others",
                several.len()
            ),
        )),
    }
}

fn missing(name: &str) -> Fault {
    Fault::new(
        FaultCode::KeyMissing,
        format!(
            "the token does not hold the {name}: is it the right token? (`signer init` makes keys once)"
        ),
    )
}
