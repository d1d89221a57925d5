//! The whole system, from its real programs, against crashes, reorganisations, outages and a real node's opinion.

mod books;
mod crashes;
mod outages;
mod reorgs;
mod signing;
