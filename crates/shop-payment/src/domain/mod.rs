//! The rules of charging and refunding, and the ports they need: nothing here knows the wire or the database.

mod books;
mod cashier;
mod error;
mod money;
mod payment;
mod provider;

pub use books::{Books, Opened, Page};
pub use cashier::{Cashier, PROVIDER_TIMEOUT};
pub use error::Error;
pub use money::{CURRENCIES, Currency, MAX_MINOR_UNITS, Money, MoneyError};
pub use payment::{Charge, CustomerId, Fingerprint, Payment, PaymentId, PaymentState, Requested, StateName, Token};
pub use provider::{Outcome, Provider, ProviderError, Undone};

#[cfg(test)]
mod tests;
