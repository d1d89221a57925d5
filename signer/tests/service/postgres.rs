//! A house whose log lies in PostgreSQL: the rows of the one that was made are copied as they are.

use crate::house::House;
use crate::moved::moved;

/// Moves the log of a house that is not running.
pub(crate) async fn move_to_postgres(house: &mut House) {
    house.config.database = Some(moved(&house.config.state_dir.join("log.sqlite")).await);
}
