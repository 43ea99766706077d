//! The stock of one product: how much there is and how much of it is promised.

use sinew_core::planted;
use uuid::Uuid;

/// The most one line or one adjustment may move: far above any order, far below where sums could overflow.
pub const MAX_QUANTITY: i64 = 1_000_000;

/// The most of one product that may lie in the warehouse.
pub const MAX_ON_HAND: i64 = 1_000_000_000_000;

/// A product's id, given by the catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProductId(pub Uuid);

/// One product's stock. `0 <= reserved <= on_hand <= MAX_ON_HAND` always holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stock {
    /// Whose stock.
    pub product: ProductId,
    /// What lies in the warehouse, promised or not.
    pub on_hand: i64,
    /// What of it is promised to orders.
    pub reserved: i64,
    /// Counts the changes: 0 before the first.
    pub version: i64,
}

/// Why an adjustment is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AdjustError {
    /// What is promised, or more than there is, would be taken away.
    #[error("only {available} are available")]
    Insufficient {
        /// What may be taken away at most.
        available: i64,
    },
    /// The warehouse would hold more than [`MAX_ON_HAND`].
    #[error("more than {MAX_ON_HAND} would lie in the warehouse")]
    Overflow,
}

impl Stock {
    /// A product that was never stocked.
    pub fn empty(product: ProductId) -> Self {
        Self { product, on_hand: 0, reserved: 0, version: 0 }
    }

    /// What an order may still take.
    pub fn available(&self) -> i64 {
        self.on_hand - self.reserved
    }

    /// Goods that arrived (`delta > 0`) or left by another way than an order (`delta < 0`).
    pub fn adjusted(self, delta: i64) -> Result<Self, AdjustError> {
        let on_hand = self.on_hand.checked_add(delta).filter(|n| *n <= MAX_ON_HAND).ok_or(AdjustError::Overflow)?;
        if on_hand < self.reserved {
            return Err(AdjustError::Insufficient { available: self.available() });
        }
        Ok(Self { on_hand, version: self.version + 1, ..self })
    }

    /// `quantity` promised; `None` when fewer are available.
    pub(super) fn reserved(self, quantity: i64) -> Option<Self> {
        let enough = quantity <= self.available() || planted!(Oversell);
        enough.then(|| Self { reserved: self.reserved + quantity, version: self.version + 1, ..self })
    }

    /// `quantity` no longer promised.
    pub(super) fn released(self, quantity: i64) -> Self {
        // A promise is released at most once, so this never passes zero; if a row was edited by hand, stay at zero.
        Self { reserved: (self.reserved - quantity).max(0), version: self.version + 1, ..self }
    }
}
