//! Another bundle of an account that has one: with more children for the same token, or for another token. It refuses
//! what makes no sense before anybody brings shares, and never changes the bundle before.

use bundle::{Header, Scheme};

use crate::Error;
use crate::account::Account;
use crate::create::{Made, Plan, make};
use crate::earlier::Earlier;
use crate::restore::require_same;
use crate::transcript::Transcript;

/// Whether there can be more children at all in an account's bundle.
///
/// # Errors
/// [`Error::NotAnExtension`] says what to do instead.
pub fn require_extendable(before: &Header) -> Result<(), Error> {
    require_anew(before.fields().kind.scheme)
}

/// Whether children can be added by this scheme without the keys of the run before.
///
/// # Errors
/// [`Error::NotAnExtension`] says what to do instead.
pub fn require_anew(scheme: Scheme) -> Result<(), Error> {
    match scheme {
        Scheme::SealedAesGcm => Err(Error::NotAnExtension(
            "a sealed account has every index already; for another token use reseal",
        )),
        // Whoever could add to it could also read it.
        Scheme::AesKwp => Err(Error::NotAnExtension(
            "its key-encryption key was written nowhere: use reseal, which makes another and may hold more children",
        )),
        _ => Ok(()),
    }
}

/// Whether a plan is an extension of an account's bundle.
///
/// # Errors
/// [`Error::NotAnExtension`] for another token or scheme, or for no more children.
pub fn require_extension(plan: &Plan, before: &Header) -> Result<(), Error> {
    require_extendable(before)?;
    let old = before.fields();
    if plan.kind.scheme != old.kind.scheme {
        return Err(Error::NotAnExtension("it is wrapped by another scheme: use reseal"));
    }
    if plan.wrapping.fingerprint() != old.wrapping {
        return Err(Error::NotAnExtension("the wrapping key is of another token: use reseal"));
    }
    if plan.external < old.external || plan.change < old.change {
        return Err(Error::NotAnExtension("it would hold fewer children than the bundle before"));
    }
    if (plan.external, plan.change) == (old.external, old.change) {
        return Err(Error::NotAnExtension("it would hold as many children as the bundle before"));
    }
    Ok(())
}

/// Whether a plan moves an account to another token, or to another scheme.
///
/// # Errors
/// [`Error::NotAReseal`] for the same token by the same scheme, another tier, or fewer children.
pub fn require_reseal(plan: &Plan, before: &Header) -> Result<(), Error> {
    let old = before.fields();
    if plan.kind.scheme.is_sealed() != old.kind.scheme.is_sealed() {
        return Err(Error::NotAReseal("an account's tier stays as it is"));
    }
    if plan.wrapping.fingerprint() == old.wrapping && plan.kind.scheme == old.kind.scheme {
        return Err(Error::NotAReseal(if old.kind.scheme.is_sealed() {
            "the sealing key is the same token's: the bundle that is there does"
        } else {
            "the wrapping key is the same token's: use extend"
        }));
    }
    if plan.external < old.external || plan.change < old.change {
        return Err(Error::NotAReseal("it would hold fewer children than the bundle before"));
    }
    Ok(())
}

/// The bundle for the same token with more children than the one before, whose records are taken over as they are: what
/// the token has proven of them stays proven.
///
/// # Errors
/// As [`require_extension`], [`Error::OtherAccount`], and as [`rebuild`](crate::restore::rebuild).
pub fn extend(
    plan: &Plan,
    earlier: &Earlier,
    account: Account,
    on_record: impl FnMut(),
) -> Result<Made, Error> {
    require_extension(plan, earlier.header())?;
    require_same(earlier.header(), &account)?;
    make(plan, replacing("extend", earlier), || Ok((account, None)), Some(earlier), on_record)
}

/// The same where the bundle before is not at hand: from shares and the wrapping key alone, every child wrapped anew. That it is
/// the same token's, and holds no fewer children, only the signer's import can tell.
///
/// # Errors
/// As [`require_anew`], and as [`rebuild`](crate::restore::rebuild).
pub fn extend_anew(plan: &Plan, account: Account, on_record: impl FnMut()) -> Result<Made, Error> {
    require_anew(plan.kind.scheme)?;
    let mut transcript = Transcript::of("extend");
    transcript
        .note("before", "no bundle was at hand: nothing was compared, every child is wrapped anew");
    make(plan, transcript, || Ok((account, None)), None, on_record)
}

/// The bundle for another token, or by another scheme; a key-encryption key is another one each time.
///
/// # Errors
/// As [`require_reseal`], [`Error::OtherAccount`], and as [`rebuild`](crate::restore::rebuild).
pub fn reseal(
    plan: &Plan,
    earlier: &Earlier,
    account: Account,
    on_record: impl FnMut(),
) -> Result<Made, Error> {
    require_reseal(plan, earlier.header())?;
    require_same(earlier.header(), &account)?;
    make(plan, replacing("reseal", earlier), || Ok((account, None)), None, on_record)
}

fn replacing(what: &str, earlier: &Earlier) -> Transcript {
    let mut transcript = Transcript::of(what);
    let fields = earlier.header().fields();
    let held = if fields.kind.scheme.is_sealed() {
        "the account, sealed".to_owned()
    } else {
        format!("{} external, {} change children, wrapped", fields.external, fields.change)
    };
    transcript.note("before", &format!("{held} for {}", hex::encode(fields.wrapping)));
    transcript.note("bundle before", &hex::encode(earlier.digest()));
    transcript
}
