//! Key-encryption keys: found by what they open, and checked. A symmetric key has no public half, so a key is known by a
//! canary that only it opens (see `bundle::kek`). It never takes one of two keys that open the same canary, and never
//! lets an AES key lie in the token that is none of those it knows.
//!
//! That last rule is what finds a stolen key. Whoever has the PIN and the ceremony's file while an import is open can
//! unwrap a copy with an unwrap template of their own, under which the canary does not open as it does for us: so a
//! copy is not known by what it opens, but by being there.

use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::MechanismType;
use cryptoki::object::{Attribute, KeyType, ObjectClass, ObjectHandle};
use token_wire::{Fault, FaultCode, Kek, RawSignature};

use crate::expect::check_kek;
use crate::fault;
use crate::keys::{Finder, only};
use crate::scheme::Unwrapper;
use crate::session::Session;
use crate::sign::Children;
use crate::{canary, kek_trial, kwp};

/// Times that a key must fail to open a canary until it is taken for another key.
const TRIES: u32 = 3;

/// An AES key in the token, and which canary it opens.
struct Found {
    key: ObjectHandle,
    opens: Option<[u8; 32]>,
    /// The token named the mechanism when it was asked to open one.
    by_no_such: bool,
}

impl Finder<'_> {
    /// The one key that opens each canary, and it is as it must be. There is no other AES key but for forgotten ones.
    pub(crate) fn keks(
        &mut self,
        keks: &[Kek],
        forgotten: &[Kek],
        number: u64,
    ) -> Result<Vec<([u8; 32], ObjectHandle)>, Fault> {
        let there = self.aes_keys(&[keks, forgotten].concat(), number)?;
        let mut found = Vec::new();
        for kek in keks {
            let name = name(kek);
            let key = only(&opening(&there, kek), &name)
                .map_err(|fault| unless_by_no_such(fault, &there, number))
                .map_err(burnt)?;
            check_kek(self.session, key, &name, kwp_type(number)?).map_err(burnt)?;
            found.push((kek.fingerprint, key));
        }
        forgotten.iter().try_for_each(|kek| self.refuse_weak(&there, kek, number))?;
        refuse_strays(&there, number)?;
        Ok(found)
    }

    /// Every AES key in the token opens one of these canaries, and gives no child away.
    pub(crate) fn refuse_unknown(&mut self, keks: &[Kek], number: u64) -> Result<(), Fault> {
        let there = self.aes_keys(keks, number)?;
        keks.iter().try_for_each(|kek| self.refuse_weak(&there, kek, number))?;
        refuse_strays(&there, number)
    }

    /// Every key that opens the canary is as it must be and withstands everything: then a second one is no weaker than the
    /// first.
    fn refuse_weak(&self, there: &[Found], kek: &Kek, number: u64) -> Result<(), Fault> {
        for key in opening(there, kek) {
            let unwrapper = Unwrapper::kek(key, number)?;
            check_kek(self.session, key, &name(kek), kwp_type(number)?)
                .and_then(|()| kek_trial::try_everything(self.session, &unwrapper))
                .and_then(|()| canary::try_everything(self.session, &unwrapper, &kek.canary))
                .map_err(burnt)?;
        }
        Ok(())
    }

    /// Every key in the token that opens the canary.
    pub(crate) fn opening(&mut self, kek: &Kek, number: u64) -> Result<Vec<ObjectHandle>, Fault> {
        Ok(opening(&self.aes_keys(std::slice::from_ref(kek), number)?, kek))
    }

    /// Not those of sealed accounts, which are of one session.
    fn aes_keys(&mut self, keks: &[Kek], number: u64) -> Result<Vec<Found>, Fault> {
        let all = self.find(&[
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::AES),
            Attribute::Token(true),
        ])?;
        let mut there = Vec::with_capacity(all.len());
        for key in all {
            let unwrapper = Unwrapper::kek(key, number)?;
            let mut found = Found { key, opens: None, by_no_such: false };
            for kek in keks {
                match open(self.session, &unwrapper, &kek.canary)? {
                    Opening::Opened => found.opens = Some(kek.fingerprint),
                    Opening::NoSuchMechanism => found.by_no_such = true,
                    Opening::Another => {}
                }
                if found.opens.is_some() {
                    break;
                }
            }
            there.push(found);
        }
        Ok(there)
    }
}

fn opening(there: &[Found], kek: &Kek) -> Vec<ObjectHandle> {
    let found = there.iter().filter(|found| found.opens == Some(kek.fingerprint));
    found.map(|found| found.key).collect()
}

/// Whether the number is what is wrong, as far as keys can tell: none opens anything by it, and the token names it.
fn by_no_such(there: &[Found]) -> bool {
    let opened = there.iter().any(|found| found.opens.is_some());
    !opened && there.iter().any(|found| found.by_no_such)
}

fn unless_by_no_such(fault: Fault, there: &[Found], number: u64) -> Fault {
    if fault.code == FaultCode::KeyMissing && by_no_such(there) {
        let why = format!("no AES key in it opens anything by that; {}", fault.text);
        return Fault { code: FaultCode::KeyMissing, ..no_such_mechanism(number, &why) };
    }
    fault
}

/// What to do about a number that the token does not have.
pub(crate) fn no_such_mechanism(number: u64, why: &str) -> Fault {
    Fault::new(
        FaultCode::Module,
        format!(
            "the token does not unwrap by the mechanism {number:#x} ({why}): look for its AES key wrap with padding and set `kwp_mechanism` under [token]"
        ),
    )
}

fn refuse_strays(there: &[Found], number: u64) -> Result<(), Fault> {
    let strays = there.iter().filter(|found| found.opens.is_none()).count();
    if strays == 0 {
        return Ok(());
    }
    let first = if by_no_such(there) {
        format!(
            "the token names the mechanism: if {number:#x} is not where it has AES key wrap with padding, set `kwp_mechanism` under [token] first, and nothing of this need be so: "
        )
    } else {
        String::new()
    };
    Err(burnt(Fault::new(
        FaultCode::KeyUnsafe,
        format!(
            "{first}the token holds {strays} AES key(s) that open none of the canaries written down for it: each may be a copy of a key-encryption key, made weaker while an import was open, and none can be told from such a copy"
        ),
    )))
}

/// Says what it means for coins when a key-encryption key is not what it must be, or not the only one.
pub(crate) fn burnt(fault: Fault) -> Fault {
    if !matches!(fault.code, FaultCode::KeyUnsafe | FaultCode::KeyAmbiguous) {
        return fault;
    }
    Fault { text: format!("{}. {BURNT}", fault.text), ..fault }
}

const BURNT: &str = "Unless you know for certain who did this, the accounts under this token's key-encryption keys are burnt: from one child's key and the descriptor, every key of its account follows. Make new accounts of new seeds and sweep the coins there; do not reseal, extend or restore these, since that keeps the very same keys";

/// Whether the canary comes out, which its signature shows.
pub(crate) fn opens(
    session: &Session,
    unwrapper: &Unwrapper,
    canary: &[u8],
) -> Result<bool, Fault> {
    Ok(open(session, unwrapper, canary)? == Opening::Opened)
}

/// What became of a canary.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Opening {
    Opened,
    /// It is another key's.
    Another,
    /// It is, or the token has no such mechanism, or not for this key.
    NoSuchMechanism,
}

fn open(session: &Session, unwrapper: &Unwrapper, canary: &[u8]) -> Result<Opening, Fault> {
    let digest = [0x4b; 32];
    let mut came = Opening::Another;
    for _ in 0..TRIES {
        match Children::new(session, unwrapper, canary).try_canary(&digest) {
            Ok(signature) if is_canarys(&signature, &digest) => return Ok(Opening::Opened),
            Ok(_) => return Ok(Opening::Another),
            Err(Error::Pkcs11(RvError::MechanismInvalid, _)) => came = Opening::NoSuchMechanism,
            Err(error) if fault::blames_key(&error) => {}
            Err(error) => return Err(fault::token("look for a key-encryption key", &error)),
        }
    }
    Ok(came)
}

fn is_canarys(raw: &RawSignature, digest: &[u8; 32]) -> bool {
    use secp256k1::{Message, PublicKey, SECP256K1, ecdsa::Signature};
    let verify = || {
        let key = PublicKey::from_slice(&token_wire::CANARY_PUBLIC_KEY)?;
        let mut signature = Signature::from_compact(&raw.to_bytes())?;
        signature.normalize_s();
        SECP256K1.verify_ecdsa(&Message::from_digest(*digest), &signature, &key)
    };
    verify().is_ok()
}

pub(crate) fn kwp_type(number: u64) -> Result<MechanismType, Fault> {
    let at = kwp::at(number).map_err(|text| Fault::new(FaultCode::BadRequest, text))?;
    Ok(at.0)
}

/// What people call it, and its label in the token.
pub(crate) fn name(kek: &Kek) -> String {
    let start: String = kek.fingerprint.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("key-encryption key {start}")
}
