//! By what children are unwrapped: the wrapping key by RSA-OAEP, or a key-encryption key by AES key wrap with padding.
//! It never chooses: a child says what it is wrapped by, and the settings which ways there are.

use cryptoki::error::Error;
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsOaepParams, PkcsOaepSource};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, ObjectHandle};
use token_wire::{Fault, FaultCode, Schemes, WrappedBy};

use crate::keys::KeyRing;
use crate::kwp;
use crate::session::Session;

/// A key and the mechanism it unwraps by.
pub(crate) struct Unwrapper {
    pub(crate) mechanism: Mechanism<'static>,
    pub(crate) key: ObjectHandle,
}

impl Unwrapper {
    /// The one for children that are wrapped like this; a fault when the settings have no such way, or the token no such
    /// key.
    pub(crate) fn of(by: WrappedBy, keys: &KeyRing, schemes: &Schemes) -> Result<Self, Fault> {
        match by {
            WrappedBy::OaepSha1 if schemes.oaep_sha1 => {
                Ok(Self { mechanism: oaep(), key: keys.wrapping })
            }
            WrappedBy::OaepSha256 if schemes.oaep_sha256 => {
                Ok(Self { mechanism: oaep_sha256(), key: keys.wrapping })
            }
            WrappedBy::Kek(fingerprint) => {
                let key = keys.keks.iter().find(|(found, _)| *found == fingerprint);
                let (_, key) = key.ok_or_else(no_such_way)?;
                Self::kek(*key, schemes.kwp_mechanism.ok_or_else(no_such_way)?)
            }
            _ => Err(no_such_way()),
        }
    }

    /// A key-encryption key, with the module's number of AES key wrap with padding.
    pub(crate) fn kek(key: ObjectHandle, number: u64) -> Result<Self, Fault> {
        let at = kwp::at(number).map_err(|text| Fault::new(FaultCode::BadRequest, text))?;
        Ok(Self { mechanism: at.1, key })
    }

    pub(crate) fn unwrap(
        &self,
        session: &Session,
        wrapped: &[u8],
        template: &[Attribute],
    ) -> Result<ObjectHandle, Error> {
        session.unwrap_key(&self.mechanism, self.key, wrapped, template)
    }
}

/// `CKM_RSA_PKCS_OAEP` as SoftHSM has it: SHA-1, MGF1 with SHA-1, no label.
pub(crate) fn oaep() -> Mechanism<'static> {
    oaep_by(MechanismType::SHA1, PkcsMgfType::MGF1_SHA1)
}

/// The same with SHA-256 for both.
pub(crate) fn oaep_sha256() -> Mechanism<'static> {
    oaep_by(MechanismType::SHA256, PkcsMgfType::MGF1_SHA256)
}

fn oaep_by(hash: MechanismType, mgf: PkcsMgfType) -> Mechanism<'static> {
    Mechanism::RsaPkcsOaep(PkcsOaepParams::new(hash, mgf, PkcsOaepSource::empty()))
}

fn no_such_way() -> Fault {
    let text = "a child is wrapped in a way that the settings do not name, or under a key that is not here";
    Fault::new(FaultCode::BadRequest, text)
}
