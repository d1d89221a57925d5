//! What people have to do with requests: those that wait for them are written down and shown, what they say is verified
//! and written down, and counts as evidence when the policy is asked again. It never decides, and never signs.
//!
//! Reading order: [`paper`] (the canonical intent), [`wait`] (a request that waits), [`hear`] (a statement comes in),
//! [`testify`] (what was said, as evidence), `taking_back` (what they take back of what is signed), `unbinding` (of a stuck payout from what was signed for it), `held` (what a freeze, or that, holds back), [`doubt`] (whether the clock is believed), [`vetoing`] (over a policy that is proposed), [`inbox`] (statements as files), [`revocations`] (lists that come with statements), `pushes` (who hands one in, or a policy), [`unopened`] (also while no log is open), `keeping` (freezes until one is), [`notices`], `listening`, [`grpc`].

pub mod paper;
pub mod wait;
pub mod doubt;
pub mod hear;
pub mod testify;
mod taking_back;
mod unbinding;
pub(crate) mod held;
pub mod vetoing;
pub mod inbox;
pub mod revocations;
mod pushes;
pub mod unopened;
mod keeping;
pub mod notices;
mod listening;
pub mod grpc;

pub(crate) use hear::VALID_SECONDS_MAX;
pub(crate) use testify::holds;
