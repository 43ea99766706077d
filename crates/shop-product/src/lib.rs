//! The product service: what there is to buy, and for how much.

mod api;
mod app;
mod config;
mod domain;
mod infrastructure;

pub use api::Api;
pub use app::App;
pub use config::Config;
pub use domain::{
    CURRENCIES, Caller, Catalogue, Changes, Currency, Description, Error, MAX_MINOR_UNITS, Money, MoneyError, NewProduct, Page,
    Product, ProductId, Request, TextError, Title,
};
pub use infrastructure::{OpenError, RedisCatalogue, SqlCatalogue, Store, migrations};
