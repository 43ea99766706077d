//! One payment and its states.
//!
//! ```text
//!           charge              provider: taken            refund             provider: returned
//!  (none) ────────► Pending ───────────────────► Charged ─────────► Refunding ─────────────────► Refunded
//!    │                │ │    provider: declined                      ▲    │    provider: nothing taken
//!    │                │ └──────────────────────► Declined            │    └────────────────────► Voided
//!    │                └──────────────────── refund ──────────────────┘                              ▲
//!    └─────────────────────────────────────── refund (tombstone) ───────────────────────────────────┘
//! ```
//!
//! Pending is written before the provider is asked and Refunding before it is asked to undo, so a process that dies
//! in between leaves a row that says what to look up. Each change is conditional on the version that was read: of two
//! replicas at work on one payment the first to record wins and the other takes its answer over.

use super::{Error, Money, Outcome, Undone};
use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};
use std::fmt;
use uuid::Uuid;

/// A payment's id, given by the caller; also the key under which the provider knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PaymentId(pub Uuid);

/// Who pays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CustomerId(pub Uuid);

/// Stands for a card. A secret: never logged.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(pub String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// What is asked for. A repeat is the same request only when all of it is equal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    /// The payment to make.
    pub id: PaymentId,
    /// Who pays.
    pub customer: CustomerId,
    /// How much.
    pub money: Money,
    /// From which card.
    pub token: Token,
}

/// Tells one request from another without keeping its token: SHA-256 over all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

/// What is kept of a [`Charge`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Requested {
    /// Who pays.
    pub customer: CustomerId,
    /// How much.
    pub money: Money,
    /// All of it, the token included.
    pub fingerprint: Fingerprint,
}

impl Charge {
    /// Equal for equal charges only.
    pub fn fingerprint(&self) -> Fingerprint {
        let mut digest = Sha256::new();
        digest.update(self.id.0.as_bytes());
        digest.update(self.customer.0.as_bytes());
        digest.update(self.money.minor_units().to_be_bytes());
        // Three letters always, so nothing can slide from one field into the next; the token comes last.
        digest.update(self.money.currency().code());
        digest.update(&self.token.0);
        Fingerprint(digest.finalize().into())
    }
}

/// Where a payment stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PaymentState {
    /// The provider was, or is about to be, asked; its answer is not recorded.
    Pending,
    /// The money was taken.
    Charged {
        /// The provider's name of the charge.
        reference: String,
    },
    /// The provider refused; no money was taken.
    Declined {
        /// The provider's word for why.
        reason: String,
    },
    /// To be undone at the provider; whether money was taken is not known yet.
    Refunding,
    /// The money was taken and given back.
    Refunded,
    /// Refunded before any money was taken; none will be.
    Voided,
}

/// The name of a [`PaymentState`], to list by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateName {
    /// See [`PaymentState::Pending`].
    Pending,
    /// See [`PaymentState::Charged`].
    Charged,
    /// See [`PaymentState::Declined`].
    Declined,
    /// See [`PaymentState::Refunding`].
    Refunding,
    /// See [`PaymentState::Refunded`].
    Refunded,
    /// See [`PaymentState::Voided`].
    Voided,
}

impl PaymentState {
    /// Its name.
    pub fn name(&self) -> StateName {
        match self {
            Self::Pending => StateName::Pending,
            Self::Charged { .. } => StateName::Charged,
            Self::Declined { .. } => StateName::Declined,
            Self::Refunding => StateName::Refunding,
            Self::Refunded => StateName::Refunded,
            Self::Voided => StateName::Voided,
        }
    }
}

/// One payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payment {
    /// The caller's id.
    pub id: PaymentId,
    /// What was asked for; none when only a refund ever arrived.
    pub request: Option<Requested>,
    /// Where it stands.
    pub state: PaymentState,
    /// Counts the changes: 1 for the first row.
    pub version: i64,
    /// When it was first heard of.
    pub created: DateTime<Utc>,
    /// When it last changed.
    pub updated: DateTime<Utc>,
}

impl Payment {
    /// An intent to charge.
    pub fn pending(charge: &Charge, now: DateTime<Utc>) -> Self {
        let fingerprint = charge.fingerprint();
        let request = Some(Requested { customer: charge.customer, money: charge.money, fingerprint });
        Self { id: charge.id, request, state: PaymentState::Pending, version: 1, created: now, updated: now }
    }

    /// The mark that a refund leaves where there was nothing to refund: a charge that arrives later is refused.
    pub fn tombstone(id: PaymentId, now: DateTime<Utc>) -> Self {
        Self { id, request: None, state: PaymentState::Voided, version: 1, created: now, updated: now }
    }

    /// Whether this is what was asked for before; a tombstone fits every charge.
    pub fn is_for(&self, charge: &Charge) -> bool {
        self.request.is_none_or(|first| first.fingerprint == charge.fingerprint())
    }

    /// With the provider's answer; none where no answer is waited for.
    pub fn settled(&self, outcome: &Outcome, now: DateTime<Utc>) -> Option<Self> {
        let state = match (&self.state, outcome) {
            (PaymentState::Pending, Outcome::Taken { reference }) => PaymentState::Charged { reference: reference.clone() },
            (PaymentState::Pending, Outcome::Declined { reason }) => PaymentState::Declined { reason: reason.clone() },
            _ => return None,
        };
        Some(self.changed(state, now))
    }

    /// About to be undone; none where there is nothing to undo (any more).
    pub fn refunding(&self, now: DateTime<Utc>) -> Option<Self> {
        matches!(self.state, PaymentState::Pending | PaymentState::Charged { .. })
            .then(|| self.changed(PaymentState::Refunding, now))
    }

    /// Undone at the provider; none where that was not asked for.
    pub fn undone(&self, undone: Undone, now: DateTime<Utc>) -> Option<Self> {
        let state = match undone {
            Undone::Returned => PaymentState::Refunded,
            Undone::NothingTaken => PaymentState::Voided,
        };
        (self.state == PaymentState::Refunding).then(|| self.changed(state, now))
    }

    /// What a charge is answered once no provider is to be asked any more.
    pub fn answer(self) -> Result<Self, Error> {
        match &self.state {
            PaymentState::Charged { .. } => Ok(self),
            PaymentState::Declined { reason } => Err(Error::Declined { reason: reason.clone() }),
            PaymentState::Refunding | PaymentState::Refunded | PaymentState::Voided => Err(Error::Refunded),
            PaymentState::Pending => Err(Error::OutcomeUnknown),
        }
    }

    fn changed(&self, state: PaymentState, now: DateTime<Utc>) -> Self {
        // A clock that was set back must not make a payment change before it began.
        Self { state, version: self.version + 1, updated: now.max(self.updated), ..self.clone() }
    }
}
