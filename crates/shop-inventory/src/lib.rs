//! The inventory service: how much of each product there is, and for whom it is kept.

mod api;
mod app;
mod config;
mod domain;
mod infrastructure;

pub use api::Api;
pub use app::App;
pub use config::Config;
pub use domain::{
    AdjustError, Adjustment, Caller, Decision, Error, Line, Lines, LinesError, MAX_ON_HAND, MAX_QUANTITY, Page, ProductId,
    Reservation, ReservationId, ReservationState, Shortage, StateName, Stock, Warehouse, release, reserve,
};
pub use infrastructure::{SqlWarehouse, migrations};

/// The places where a test may end the process: `SINEW_FAILPOINT=<name>=kill`, see [`mod@sinew_core::failpoint`].
pub const FAILPOINTS: &[&str] = &[
    "inventory.reserve.before_commit",
    "inventory.reserve.after_commit",
    "inventory.release.before_commit",
    "inventory.release.after_commit",
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
