//! Bugs that are put in on purpose, to see that a test would catch them.
//!
//! `planted!(NoInbox)` is true only when `SINEW_PLANTED` names that bug, and `planted!(NoInbox => …)` does something only
//! then. Both are nothing in builds without the feature `planted`, which dev-dependencies alone switch on, or without
//! `debug_assertions`: no build that ships has a bug in it. `cargo xtask planted` puts in one after the other, and demands
//! that the test which is there to catch it fails.

/// Whether this bug is to be here; with `=> something`, does that if so.
#[macro_export]
macro_rules! planted {
    ($bug:ident) => {
        $crate::planted::is($crate::planted::Bug::$bug)
    };
    ($bug:ident => $then:expr) => {
        if $crate::planted!($bug) {
            $then;
        }
    };
}

/// One list, as words and as values.
macro_rules! bugs {
    ($($(#[doc = $what:literal])+ $bug:ident,)+) => {
        /// What may be planted: what is wrong then, and the guarantee that breaks.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Bug {
            $($(#[doc = $what])+ $bug,)+
        }

        #[cfg(all(feature = "planted", debug_assertions))]
        const ALL: &[Bug] = &[$(Bug::$bug,)+];
    };
}

bugs! {
    /// A saga's row is locked whoever owns it now. Breaks: a frozen coordinator writes nothing when it thaws.
    SagaWithoutFence,
    /// A step that was refused after an unknown attempt is not undone. Breaks: whatever may have had an effect is undone.
    UncertainStepKept,
    /// Undos run from the first step up. Breaks: compensation in reverse.
    UndoInForwardOrder,
    /// An undo that was refused counts as done. Breaks: a person decides, nothing is given up silently.
    RefusedUndoTakenAsDone,
    /// An undo whose answer was lost counts as done. Breaks: undos are tried until they succeed.
    LostUndoTakenAsDone,
    /// An unknown outcome counts as a refusal. Breaks: an effect whose answer was lost is kept or undone, never forgotten.
    UnknownTakenAsRefused,
    /// The coordinator does not look whether it was asked to cancel. Breaks: a cancel that was accepted is kept.
    CancelIgnored,
    /// Whoever takes a saga over believes that its step was not tried. Breaks: whatever may have had an effect is undone.
    TakeoverForgetsUncertain,
    /// An order is committed before its saga is begun. Breaks: every order ends, whenever a process dies.
    SagaOutsideTransaction,
    /// An order is committed before its event is written. Breaks: never a change without its event.
    EventOutsideTransaction,
    /// An idempotency key is committed before the effect. Breaks: a request that failed leaves its key free.
    KeyOutsideTransaction,
    /// A key answers whatever is asked under it. Breaks: another request under a used key is refused.
    KeyAnswersOtherRequests,
    /// Positions follow the outbox's ids. Breaks: what commits late is not skipped.
    PositionFromTheId,
    /// A consumer's position is committed before the effects. Breaks: what was passed took effect.
    PositionBeforeEffects,
    /// A consumer's effects are written whoever follows now. Breaks: a frozen replica writes nothing when it thaws.
    FollowerWithoutFence,
    /// Nobody looks whether an event took effect before. Breaks: a repeated delivery has no effect.
    NoInbox,
    /// Events that are missing in between are not missed. Breaks: a gap is never passed over.
    GapPassedOver,
    /// An event that cannot be read is left out. Breaks: it stops its subscription and is told.
    UnreadablePassedOver,
    /// A copy takes in whatever comes last. Breaks: an older version changes nothing.
    OlderCopyWins,
    /// A batch is acknowledged to the broker before it is taken in. Breaks: a consumer that dies loses nothing.
    AckBeforeCommit,
    /// A relay's position moves when events are sent. Breaks: what the broker did not take is sent again.
    PositionBeforeConfirm,
    /// Events are published without asking whether a queue takes them. Breaks: what nobody takes is counted.
    NotMandatory,
    /// A consumer's missing queue is made anew and followed. Breaks: what was told meanwhile comes by the snapshot.
    QueueMadeAnew,
    /// Each request for a reservation draws an id of its own. Breaks: a repeat takes nothing twice.
    RepeatReservesAgain,
    /// A release of what was never reserved leaves no trace. Breaks: a reserve that arrives later is refused.
    ReleaseWithoutTombstone,
    /// Stock is promised without looking how much there is. Breaks: nothing is oversold.
    Oversell,
    /// A refund of what was never charged leaves no trace. Breaks: a charge that arrives later is refused.
    RefundWithoutTombstone,
    /// An intent without an answer is charged without asking about it. Breaks: a lost answer is found, not charged again.
    ChargeWithoutAsking,
    /// A Redis that was flushed is served as it is. Breaks: a lost catalogue is unavailable, not empty.
    FlushedCatalogueServed,
}

#[cfg(all(feature = "planted", debug_assertions))]
mod armed {
    use super::{ALL, Bug};
    use std::{
        process::exit,
        sync::{Once, OnceLock},
    };

    /// Whether this bug is to be here.
    pub fn is(bug: Bug) -> bool {
        static PLANTED: OnceLock<Option<Bug>> = OnceLock::new();
        static REACHED: Once = Once::new();
        let planted = PLANTED.get_or_init(|| {
            let name = std::env::var("SINEW_PLANTED").ok().filter(|name| !name.is_empty())?;
            // A test whose bug is not there would prove nothing.
            let none = || {
                eprintln!("SINEW_PLANTED: {name:?} is no bug; write one of {ALL:?}");
                exit(64)
            };
            Some(named(&name).unwrap_or_else(none))
        });
        let here = *planted == Some(bug);
        if here {
            // A test that fails for another reason than this caught nothing.
            REACHED.call_once(|| eprintln!("planted: {bug:?}"));
        }
        here
    }

    fn named(name: &str) -> Option<Bug> {
        ALL.iter().copied().find(|bug| format!("{bug:?}") == name)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn bugs_are_known_by_name_and_nothing_else_is() {
            assert!(ALL.iter().all(|bug| named(&format!("{bug:?}")) == Some(*bug)));
            assert_eq!(named("NoInbox"), Some(Bug::NoInbox));
            for nonsense in ["", "noinbox", "NoInbox,AckBeforeCommit", "NoBug"] {
                assert_eq!(named(nonsense), None, "{nonsense}");
            }
        }
    }
}

#[cfg(all(feature = "planted", debug_assertions))]
pub use armed::is;

/// None is, in builds that ship.
#[cfg(not(all(feature = "planted", debug_assertions)))]
#[inline(always)]
pub const fn is(_: Bug) -> bool {
    false
}
