//! The payment service: takes money once, and gives it back once.

mod api;
mod app;
mod config;
mod domain;
mod infrastructure;

pub use api::Api;
pub use app::App;
pub use config::Config;
pub use domain::{
    Books, CURRENCIES, Cashier, Charge, Currency, CustomerId, Error, Fingerprint, MAX_MINOR_UNITS, Money, MoneyError, Opened,
    Outcome, PROVIDER_TIMEOUT, Page, Payment, PaymentId, PaymentState, Provider, ProviderError, Requested, StateName, Token,
    Undone,
};
pub use infrastructure::{EmbeddedProvider, LedgerEntry, LedgerState, SqlBooks, migrations, provider_migrations, read_ledger};

/// The places where a test may end the process: `SINEW_FAILPOINT=<name>=kill`, see [`sinew_core::failpoint`].
pub const FAILPOINTS: &[&str] = &[
    "payment.charge.after_intent",
    "payment.charge.before_provider",
    "payment.charge.after_provider",
    "payment.charge.before_commit",
    "payment.charge.after_commit",
    "payment.refund.after_intent",
    "payment.refund.before_provider",
    "payment.refund.after_provider",
    "payment.refund.before_commit",
    "payment.refund.after_commit",
];
