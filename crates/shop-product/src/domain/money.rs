//! Money: whole minor units of one currency, never a float.

use std::fmt;

/// The most one product may cost: ten billion of a currency with two decimals. A million of these still fit an i64.
pub const MAX_MINOR_UNITS: i64 = 1_000_000_000_000;

/// What the shop takes, as ISO 4217 names it.
pub const CURRENCIES: [&str; 14] =
    ["AUD", "CAD", "CHF", "CZK", "DKK", "EUR", "GBP", "HUF", "JPY", "NOK", "NZD", "PLN", "SEK", "USD"];

/// One of [`CURRENCIES`].
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Currency(&'static str);

/// An amount above zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Money {
    minor_units: i64,
    currency: Currency,
}

/// Why something is no [`Money`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// Zero, negative or beyond [`MAX_MINOR_UNITS`].
    #[error("must be between 1 and {MAX_MINOR_UNITS} minor units")]
    Amount,
    /// Not one of [`CURRENCIES`].
    #[error("must be a currency the shop takes, by its ISO 4217 code in capitals, such as EUR")]
    Currency,
}

impl Currency {
    /// By its code, capitals only.
    pub fn new(code: &str) -> Result<Self, MoneyError> {
        CURRENCIES.iter().find(|known| **known == code).map(|known| Self(known)).ok_or(MoneyError::Currency)
    }

    /// The code.
    pub fn code(self) -> &'static str {
        self.0
    }
}

impl Money {
    /// Checks both.
    pub fn new(minor_units: i64, currency: &str) -> Result<Self, MoneyError> {
        if !(1..=MAX_MINOR_UNITS).contains(&minor_units) {
            return Err(MoneyError::Amount);
        }
        Ok(Self { minor_units, currency: Currency::new(currency)? })
    }

    /// Cents of a euro, yen of a yen.
    pub fn minor_units(self) -> i64 {
        self.minor_units
    }

    /// Of which currency.
    pub fn currency(self) -> Currency {
        self.currency
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_MINOR_UNITS, Money, MoneyError};

    #[test]
    fn only_positive_amounts_of_known_currencies_are_money() {
        assert!(Money::new(1, "EUR").is_ok());
        assert!(Money::new(MAX_MINOR_UNITS, "JPY").is_ok());
        for amount in [0, -1, i64::MIN, MAX_MINOR_UNITS + 1, i64::MAX] {
            assert_eq!(Money::new(amount, "EUR"), Err(MoneyError::Amount), "{amount}");
        }
        for currency in ["", "eur", "EURO", "XXX", "€"] {
            assert_eq!(Money::new(1, currency), Err(MoneyError::Currency), "{currency}");
        }
    }
}
