//! The log: the one append-only sequence of entries that is this service's whole state. An entry counts once a
//! checkpoint signed by the token covers it; it never changes or removes one that counts, and nothing may be signed
//! before its spend does.
//!
//! Reading order: [`Log`] (open, read, commit), `permit` (the proof that an entry counts), `replay`
//! (what is checked at start, what does not count is set aside), `snapshot` and `keeper` (what spares a start the reading), `inbox` and `writer` (group commit), `checkpoints` and
//! `high_water` (what the token signs about it, and the copy outside the database), `witnesses` (who elsewhere must have
//! seen it), `proofs`, `round` and `reread` (rows read again while it runs), `store` (the few SQL statements) and `sqlite` (what is flushed when), `lease` and
//! `standby` (for how long it is ours, and how another signer takes it over).

mod commit;
mod permit;
mod replay;
mod writer;
mod inbox;
mod health;
mod checkpoints;
mod high_water;
mod proofs;
mod round;
mod reread;
mod snapshot;
mod keeper;
mod witnesses;
mod sqlite;
mod store;
mod lease;
mod standby;
mod clock;
mod error;

pub use ::ledger::{Fold, FoldError};
pub use checkpoints::CheckpointSigner;
pub use clock::Clock;
pub use commit::{Elsewhere, Log, Settings, Status, Step, begin, begun};
pub use error::{LogError, StoreError, Whose};
pub use health::Groups;
pub use high_water::{kept_origin, read as kept_checkpoint};
pub(crate) use lease::{Lease, Over};
pub use permit::DurablePermit;
pub use replay::{Opening, examine};
pub use standby::stand_by;
pub use store::Store;
pub use witnesses::{Ask, Witnesses};
pub use writer::Head;
