//! Events through RabbitMQ, for those who want a broker between publisher and consumer.
//!
//! ```text
//!  publisher's database             the broker                               consumer's database
//! ┌──────────────────────┐  ┌───────────────────────────────────────┐  ┌──────────────────────────────┐
//! │ numbered outbox      │  │ exchange `events`                      │  │ position · inbox · effect    │
//! │   │                  │  │   │ user.#          ┌─ rejected ──────►│  │        ▲                     │
//! │   ▼                  │  │   ▼                 │ order.user.dlq   │  │        │ then acknowledged   │
//! │ Relay ── confirmed ──┼──┼─► queue order.user ─┴──────────────────┼──┼─► BusFeed ► Subscription     │
//! │ one, by lease        │  │   one active consumer                  │  │ one replica, by lease        │
//! └──────────────────────┘  └───────────────────────────────────────┘  └──────────────────────────────┘
//! ```
//!
//! - [`Relay`]: one replica of a publisher hands its numbered events to the broker, and remembers how far it got only
//!   after the broker confirmed.
//! - [`BusFeed`]: a [`Feed`](sinew_events::Feed) for the subscriptions of sinew-events, which do not know the broker.
//! - [`DeadLetters`]: what could not be read, to be looked at and replayed.
//!
//! No other crate names lapin. Nothing here asks for the broker to be up: a [`Bus`] is only an address, and whoever works
//! through it reconnects by itself.

mod bus;
mod dead_letters;
mod error;
mod feed;
mod message;
mod relay;
mod topology;

pub use bus::Bus;
pub use dead_letters::{DeadLetter, DeadLetters};
pub use error::BusError;
pub use feed::BusFeed;
pub use relay::Relay;
