//! Reservations: stock promised to an order, all of it or none.
//!
//! A reservation is the saga's step and its undo, so it must stand any order in which the two arrive:
//!
//! ```text
//!            reserve, enough               release
//!   (none) ──────────────────► Reserved ─────────────► Released
//!      │ │   reserve, too little            release       ▲
//!      │ └───────────────────► Refused ───────────────────┤
//!      │                      release                     │
//!      └──────────────────────────────────────────────────┘  (no lines: the tombstone)
//! ```
//!
//! Nothing leaves Released: a reserve that arrives late finds the tombstone and is refused, otherwise it would hold
//! stock that nobody will ever release. A refusal is remembered too: the repeat of a request gets the answer that the
//! first one got, even when goods arrived in between.

use super::{Error, MAX_QUANTITY, ProductId, Stock};
use chrono::{DateTime, Utc};
use std::collections::BTreeMap;
use uuid::Uuid;

/// A reservation's id: the order's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReservationId(pub Uuid);

/// So many of one product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// Of what.
    pub product: ProductId,
    /// How many: 1 to [`MAX_QUANTITY`].
    pub quantity: i64,
}

/// Lines in the order of their product ids, each product once.
///
/// The order is the lock order: two reservations of the same products can never wait for each other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lines(Vec<Line>);

/// Why lines are no [`Lines`]; indexes are those of the input.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinesError {
    /// Nothing was asked for.
    #[error("at least one line is needed")]
    Empty,
    /// More than [`Lines::MAX`].
    #[error("at most {} lines are allowed", Lines::MAX)]
    TooMany,
    /// Outside 1 to [`MAX_QUANTITY`].
    #[error("must be between 1 and {MAX_QUANTITY}")]
    Quantity(usize),
    /// The product of an earlier line.
    #[error("the product has a line already")]
    Repeated(usize),
}

impl Lines {
    /// The most products in one reservation: its rows stay locked while it is written.
    pub const MAX: usize = 100;

    /// Checks and sorts.
    pub fn new(lines: impl IntoIterator<Item = Line>) -> Result<Self, LinesError> {
        let mut sorted = BTreeMap::new();
        for (index, line) in lines.into_iter().enumerate() {
            if index >= Self::MAX {
                return Err(LinesError::TooMany);
            }
            if !(1..=MAX_QUANTITY).contains(&line.quantity) {
                return Err(LinesError::Quantity(index));
            }
            if sorted.insert(line.product, line).is_some() {
                return Err(LinesError::Repeated(index));
            }
        }
        if sorted.is_empty() {
            return Err(LinesError::Empty);
        }
        Ok(Self(sorted.into_values().collect()))
    }

    /// Lines as a store kept them: written by [`Lines::new`], so not checked again. None for a tombstone.
    pub fn stored(mut lines: Vec<Line>) -> Self {
        lines.sort_by_key(|line| line.product);
        Self(lines)
    }

    /// In the order of product ids.
    pub fn iter(&self) -> impl Iterator<Item = Line> + '_ {
        self.0.iter().copied()
    }

    /// How many of one product.
    pub fn of(&self, product: ProductId) -> i64 {
        self.iter().find(|line| line.product == product).map_or(0, |line| line.quantity)
    }

    /// Whether this is what a tombstone has.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Too little of one product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shortage {
    /// Of what.
    pub product: ProductId,
    /// How many were asked for.
    pub requested: i64,
    /// How many there were.
    pub available: i64,
}

/// Where a reservation stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReservationState {
    /// The stock is promised.
    Reserved,
    /// There was too little; nothing is promised.
    Refused(Vec<Shortage>),
    /// Nothing is promised any more, nor will be.
    Released,
}

/// The name of a [`ReservationState`], to list by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateName {
    /// See [`ReservationState::Reserved`].
    Reserved,
    /// See [`ReservationState::Refused`].
    Refused,
    /// See [`ReservationState::Released`].
    Released,
}

impl ReservationState {
    /// Its name.
    pub fn name(&self) -> StateName {
        match self {
            Self::Reserved => StateName::Reserved,
            Self::Refused(_) => StateName::Refused,
            Self::Released => StateName::Released,
        }
    }
}

/// One reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// The order's id.
    pub id: ReservationId,
    /// What was asked for; empty when released before any reserve arrived.
    pub lines: Lines,
    /// Where it stands.
    pub state: ReservationState,
    /// When it was first heard of.
    pub created: DateTime<Utc>,
    /// When its state last changed.
    pub updated: DateTime<Utc>,
}

impl Reservation {
    /// What a reserve is answered.
    pub fn answer(self) -> Result<Self, Error> {
        match self.state {
            ReservationState::Reserved => Ok(self),
            ReservationState::Refused(short) => Err(Error::Insufficient(short)),
            ReservationState::Released => Err(Error::Released),
        }
    }
}

/// What to do with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Write these levels and the state.
    Write(Vec<Stock>, ReservationState),
    /// It is as asked for already.
    Unchanged,
    /// Refuse: released before.
    AlreadyReleased,
    /// Refuse: the id was used for other lines.
    OtherLines,
}

/// Decides a reserve, given the reservation of that id, if any, and the stock of the lines' products (in any order; a
/// missing one counts as empty).
pub fn reserve(before: Option<&Reservation>, lines: &Lines, stock: &[Stock]) -> Decision {
    match before {
        Some(before) if !before.lines.is_empty() && before.lines != *lines => return Decision::OtherLines,
        Some(before) if before.state == ReservationState::Released => return Decision::AlreadyReleased,
        Some(_) => return Decision::Unchanged,
        None => {}
    }
    let mut after = Vec::new();
    let mut short = Vec::new();
    for line in lines.iter() {
        let level = level(stock, line.product);
        match level.reserved(line.quantity) {
            Some(level) => after.push(level),
            None => short.push(Shortage { product: line.product, requested: line.quantity, available: level.available() }),
        }
    }
    if short.is_empty() {
        Decision::Write(after, ReservationState::Reserved)
    } else {
        Decision::Write(Vec::new(), ReservationState::Refused(short))
    }
}

/// Decides a release: never refuses.
pub fn release(before: Option<&Reservation>, stock: &[Stock]) -> Decision {
    let after = match before {
        Some(Reservation { state: ReservationState::Released, .. }) => return Decision::Unchanged,
        Some(Reservation { state: ReservationState::Reserved, lines, .. }) => {
            lines.iter().map(|line| level(stock, line.product).released(line.quantity)).collect()
        }
        Some(Reservation { state: ReservationState::Refused(_), .. }) | None => Vec::new(),
    };
    Decision::Write(after, ReservationState::Released)
}

fn level(stock: &[Stock], product: ProductId) -> Stock {
    stock.iter().find(|level| level.product == product).copied().unwrap_or_else(|| Stock::empty(product))
}
