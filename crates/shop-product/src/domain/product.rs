//! Products and what may be said about them.

use super::{Error, Money};
use chrono::{DateTime, Utc};
use uuid::Uuid;

/// A product's id: UUIDv7, given here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProductId(pub Uuid);

/// What it is called: 1 to 200 characters on one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Title(String);

/// What it is: at most 4,000 characters; lines may break.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Description(String);

/// Neither a [`Title`] nor a [`Description`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be {min} to {max} characters without control characters")]
pub struct TextError {
    min: usize,
    max: usize,
}

impl Title {
    /// Trims and checks.
    pub fn new(text: &str) -> Result<Self, TextError> {
        let (text, min, max) = (text.trim(), 1, 200);
        let fits = (min..=max).contains(&text.chars().count()) && !text.contains(char::is_control);
        if fits { Ok(Self(text.to_owned())) } else { Err(TextError { min, max }) }
    }

    /// The title.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Description {
    /// Trims and checks.
    pub fn new(text: &str) -> Result<Self, TextError> {
        let (text, min, max) = (text.trim(), 0, 4_000);
        let odd = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
        let fits = text.chars().count() <= max && !text.contains(odd);
        if fits { Ok(Self(text.to_owned())) } else { Err(TextError { min, max }) }
    }

    /// The description.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A product to add.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewProduct {
    /// What it is called.
    pub title: Title,
    /// What it is.
    pub description: Description,
    /// For one.
    pub price: Money,
}

/// What to change; what is none stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Only if the product is still at this version.
    pub version: Option<i64>,
    /// What it is called.
    pub title: Option<Title>,
    /// What it is.
    pub description: Option<Description>,
    /// For one.
    pub price: Option<Money>,
}

/// Something to buy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Product {
    /// Which.
    pub id: ProductId,
    /// What it is called.
    pub title: Title,
    /// What it is.
    pub description: Description,
    /// For one.
    pub price: Money,
    /// Counts the changes: 1 for a new product.
    pub version: i64,
    /// When it came.
    pub created: DateTime<Utc>,
    /// When it last changed.
    pub updated: DateTime<Utc>,
}

impl Product {
    /// A new one.
    pub fn new(new: &NewProduct, now: DateTime<Utc>) -> Self {
        let NewProduct { title, description, price } = new.clone();
        Self { id: ProductId(Uuid::now_v7()), title, description, price, version: 1, created: now, updated: now }
    }

    /// With the changes, or [`Error::Stale`].
    pub fn changed(self, changes: &Changes, now: DateTime<Utc>) -> Result<Self, Error> {
        if changes.version.is_some_and(|version| version != self.version) {
            return Err(Error::Stale);
        }
        Ok(Self {
            title: changes.title.clone().unwrap_or(self.title),
            description: changes.description.clone().unwrap_or(self.description),
            price: changes.price.unwrap_or(self.price),
            version: self.version + 1,
            updated: now.max(self.updated),
            ..self
        })
    }
}
