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

/// The places where a test may end the process: `SINEW_FAILPOINT=<name>=kill`, see [`mod@sinew_core::failpoint`].
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

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    fn named_in(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                named_in(&path, found);
            } else {
                let text = fs::read_to_string(&path).unwrap();
                let names = text.split("failpoint!(\"").skip(1).filter_map(|rest| rest.split_once("\")"));
                found.extend(names.filter(|(name, _)| name.contains('.')).map(|(name, _)| name.to_owned()));
            }
        }
    }

    #[test]
    fn the_failpoints_listed_are_those_in_the_code() {
        let mut found = BTreeSet::new();
        for layer in ["src/domain", "src/infrastructure"] {
            named_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join(layer), &mut found);
        }
        assert_eq!(found, super::FAILPOINTS.iter().map(|name| (*name).to_owned()).collect());
    }
}
