//! What the world is told, in the transaction in which it happens.

use crate::domain::{Error, ReservationId, Stock};
use sinew_sql::Tx;

pub(super) async fn reserved(_tx: &mut Tx, _stock: &Stock, _by: ReservationId, _quantity: i64) -> Result<(), Error> {
    Ok(())
}
pub(super) async fn released(_tx: &mut Tx, _stock: &Stock, _by: ReservationId, _quantity: i64) -> Result<(), Error> {
    Ok(())
}
pub(super) async fn changed(_tx: &mut Tx, _stock: &Stock, _delta: i64) -> Result<(), Error> {
    Ok(())
}
