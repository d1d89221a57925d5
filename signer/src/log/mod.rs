//! The log: the one append-only sequence of entries that is this service's whole state. It never changes or
//! removes an entry, and nothing may be signed before its spend is in here, durable.
//!
//! Reading order: [`Log`] (open, read, commit), `permit` (the proof that an entry is durable), `replay`
//! (what is checked at start), `writer` (group commit), `checkpoints` and `high_water` (what the token
//! signs about it, and the copy outside the database), `store` (the few SQL statements).

mod commit;
mod permit;
mod replay;
mod writer;
mod checkpoints;
mod high_water;
mod store;
mod clock;
mod error;

pub use checkpoints::CheckpointSigner;
pub use clock::Clock;
pub use commit::{Fold, FoldError, Log, Settings, Status, Step, begin};
pub use error::{LogError, StoreError, Whose};
pub use permit::DurablePermit;
pub use replay::Opening;
pub use store::Store;
pub use writer::{Groups, Head};
