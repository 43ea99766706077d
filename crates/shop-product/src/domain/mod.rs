//! The rules of the catalogue and the port it needs: nothing here knows the wire or the database.

mod catalogue;
mod error;
mod money;
mod product;

pub use catalogue::{Caller, Catalogue, Page, Request};
pub use error::Error;
pub use money::{CURRENCIES, Currency, MAX_MINOR_UNITS, Money, MoneyError};
pub use product::{Changes, Description, NewProduct, Product, ProductId, TextError, Title};
