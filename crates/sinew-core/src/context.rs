//! What a call inherits from the call it is made for: deadline, trace, attempt, criticality.
//!
//! The server layer sets it around each handler; the channel reads it for every call the handler makes. It lives in
//! the task, so work handed to another task has none unless it is carried over with [`scope`].

use crate::{Criticality, classify::Code, trace::TraceContext};
use std::{cell::Cell, pin::Pin};
use tokio::time::Instant;

tokio::task_local! {
    static CURRENT: Inherited;
}

/// What a call above this one was already tried: set on calls that are made for an inbound call which is a repetition.
pub const REPEATED: &str = "sinew-repeated";

/// The context of a [`Scope`], and what became of the calls made in it.
#[derive(Debug)]
pub struct Inherited {
    context: Context,
    gave_up: Cell<Option<Code>>,
}

/// The inbound call's context.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// When the caller stops waiting.
    pub deadline: Option<Instant>,
    /// The trace the call belongs to, with the server's span as parent of what follows.
    pub trace: Option<TraceContext>,
    /// How many times the inbound call, or one above it, was already tried (`grpc-previous-rpc-attempts`, [`REPEATED`]): retries
    /// of retries multiply.
    pub attempt: u32,
    /// How much the inbound call matters, and so whatever is done for it.
    pub criticality: Criticality,
}

impl Context {
    /// The context of the running task; empty outside a call.
    pub fn current() -> Self {
        CURRENT.try_with(|inherited| inherited.context.clone()).unwrap_or_default()
    }

    /// The same trace and criticality without deadline and attempt: for work that outlives the call.
    pub fn detach(&self) -> Self {
        Self { deadline: None, attempt: 0, ..self.clone() }
    }
}

/// Runs a future with this context around it.
///
/// # Cancel safety
///
/// Dropping the returned future drops `future`; nothing else is held.
pub fn scope<F: Future>(context: Context, future: F) -> Scope<F> {
    CURRENT.scope(Inherited { context, gave_up: Cell::default() }, future)
}

/// A call made in this scope failed: with this code after it was repeated as often as it may be, so that repeating the inbound
/// call would only repeat that, or without having been repeated. Outside a scope it says nothing.
pub fn call_failed(gave_up: Option<Code>) {
    let _ = CURRENT.try_with(|inherited| inherited.gave_up.set(gave_up));
}

/// The code of the latest failed call made in this scope, if that was given up; asked once, after the end.
pub fn gave_up<F>(scope: Pin<&mut Scope<F>>) -> Option<Code> {
    scope.take_value().and_then(|inherited| inherited.gave_up.get())
}

/// Runs `f` with this context around it: for what is polled outside of [`scope`], such as the body of a response.
pub fn within<R>(context: Context, f: impl FnOnce() -> R) -> R {
    CURRENT.sync_scope(Inherited { context, gave_up: Cell::default() }, f)
}

/// What [`scope`] returns.
pub type Scope<F> = tokio::task::futures::TaskLocalFuture<Inherited, F>;

#[cfg(test)]
mod tests {
    use super::{Context, call_failed, gave_up, scope, within};
    use crate::classify::Code;

    #[tokio::test]
    async fn inner_calls_see_it_and_other_tasks_do_not() {
        let context = Context { attempt: 3, ..Context::default() };
        scope(context, async {
            assert_eq!(Context::current().attempt, 3);
            assert_eq!(Context::current().detach().attempt, 0);
            let elsewhere = tokio::spawn(async { Context::current().attempt }).await;
            assert_eq!(elsewhere.ok(), Some(0));
        })
        .await;
        assert_eq!(Context::current().attempt, 0);
        let context = Context { attempt: 4, ..Context::default() };
        assert_eq!(within(context, || Context::current().attempt), 4);
        assert_eq!(Context::current().attempt, 0);
    }

    #[tokio::test]
    async fn who_gave_up_is_known_when_the_scope_ends() {
        let unavailable = Some(Code::Unavailable);
        // The latest failure counts: the one before it was got over.
        for (failures, expected) in [(vec![], None), (vec![None, unavailable], unavailable), (vec![unavailable, None], None)] {
            let mut scope = Box::pin(scope(Context::default(), async move {
                failures.into_iter().for_each(call_failed);
            }));
            scope.as_mut().await;
            assert_eq!(gave_up(scope.as_mut()), expected);
        }
        call_failed(unavailable);
    }
}
