//! One saga's task: call, decide, record, and again.

use crate::{
    boundary::pass,
    coordinator::Shared,
    definition::{Boundaries, Data, Failure, Instance},
    machine::{Change, Event, Reason, State, decide},
    store::{self, Entry, Lease, Row, Update},
};
use sinew_core::{
    Context, context,
    failpoint::doubled,
    trace::{OpenSpan, SpanKind, TraceContext},
};
use sinew_sql::retry;
use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};

/// What one task works on.
struct Job<'a, D> {
    shared: &'a Shared<D>,
    saga: Instance<D>,
    lease: Lease,
    trace: Option<TraceContext>,
}

/// What a transaction made of an event.
struct Recorded {
    state: State,
    change: Option<Change>,
    cancel: Option<String>,
}

/// Drives one saga until it ends, is parked, is taken over, or the process ends.
pub(crate) async fn drive<D: Data>(shared: &Shared<D>, mut row: Row) {
    let saga = match shared.instance(&row) {
        Ok(saga) => saga,
        Err(error) => {
            // Perhaps a newer replica can read it: it comes round again when the lease ends.
            tracing::error!(saga_id = %row.saga_id, %error, "saga not understood");
            return;
        }
    };
    let lease = Lease { id: row.saga_id, epoch: row.epoch };
    let mut job = Job { shared, saga, lease, trace: row.traceparent.as_deref().and_then(TraceContext::parse) };
    let wake = Arc::new(Notify::new());
    shared.waiting().insert(lease.id, wake.clone());
    let mut state = row.state();
    while !state.phase.is_terminal() && !state.parked && !shared.draining.is_cancelled() {
        let at = shared.circumstances(&row, shared.now());
        let stop = state.phase.is_forward() && (at.cancelled.is_some() || at.now >= at.expires);
        let event = if stop { Event::Look } else { job.attempt(&state).await };
        let Some(recorded) = job.record(&state, &event).await else { return };
        let again = recorded.state.attempt > state.attempt;
        (state, row.cancel_code) = (recorded.state, recorded.cancel);
        if again {
            tokio::select! {
                biased;
                () = shared.draining.cancelled() => {}
                // A cancel cuts the wait short.
                () = wake.notified() => {}
                () = sleep(shared.backoff(state.step, state.attempt)) => {}
            }
        }
    }
}

impl<D: Data> Job<'_, D> {
    /// Calls the participant of the step under way, and keeps what it answers.
    async fn attempt(&mut self, state: &State) -> Event {
        let Some(planned) = self.shared.definition.steps.get(state.step) else {
            return Event::Unknown(Reason::new("UNKNOWN_STEP", format!("this version has no step {}", state.step)));
        };
        let Ok(_permit) = self.shared.calls.acquire().await else {
            return Event::Unknown(Reason::new("STOPPING", "the coordinator is ending"));
        };
        let forward = state.phase.is_forward();
        let names = if forward { &planned.act } else { &planned.undo };
        let probe = self.shared.config.probe.as_ref();
        pass(&names.before_call, probe).await;
        let limit = self.shared.definition.timing_of(state.step).attempt;
        let span = self.trace.and_then(|trace| OpenSpan::below(trace, self.shared.clock.now(), &*self.shared.rng));
        let trace = span.as_ref().map(OpenSpan::context).or(self.trace);
        let inbound = Context { deadline: Some(Instant::now() + limit), trace, ..Context::default() };
        let call = async || match forward {
            true => planned.step.act(&self.saga).await.map(Some),
            false => planned.step.undo(&self.saga).await.map(|()| None),
        };
        let outcome = if doubled(&names.before_call) {
            // Two at once, of which the later answer is lost.
            let both = async { tokio::join!(timeout(limit, call()), timeout(limit, call())).0 };
            context::scope(inbound, both).await
        } else {
            context::scope(inbound, timeout(limit, call())).await
        };
        if let Some(span) = span {
            let definition = &self.shared.definition;
            let name = format!("saga {} {}{}", definition.name, planned.name, if forward { "" } else { " undo" });
            let error = match &outcome {
                Ok(Ok(_)) => None,
                Ok(Err(Failure::Refused(reason) | Failure::Unknown(reason))) => Some(reason.to_string()),
                Err(_) => Some(format!("no answer within {limit:?}")),
            };
            let attributes = vec![("saga.id", self.lease.id.to_string()), ("saga.epoch", self.lease.epoch.to_string())];
            span.end(name, SpanKind::Internal, self.shared.clock.now(), attributes, error);
        }
        if doubled(&names.after_call) {
            // A repeat that was long on its way.
            let _ = timeout(limit, call()).await;
        }
        pass(&names.after_call, probe).await;
        match outcome {
            Ok(Ok(output)) => {
                if let Some(output) = output {
                    self.saga.outputs.insert(planned.name.to_owned(), output);
                }
                Event::Done
            }
            Ok(Err(Failure::Refused(reason))) => Event::Refused(reason),
            Ok(Err(Failure::Unknown(reason))) => Event::Unknown(reason),
            Err(_) => Event::Unknown(Reason::new("DEADLINE_EXCEEDED", format!("no answer within {limit:?}"))),
        }
    }

    /// Records what happened, trying until the database answers; `None` when another has taken the saga over.
    async fn record(&self, state: &State, event: &Event) -> Option<Recorded> {
        let mut failures = 0;
        loop {
            match retry(|| self.transact(state, event)).await {
                Ok(Some(recorded)) => {
                    if self.boundaries(state).is_some_and(|names| doubled(&names.after_commit)) {
                        // A commit whose answer was lost.
                        let _ = self.transact(state, event).await;
                    }
                    self.tell(state, event, recorded.change.as_ref());
                    return Some(recorded);
                }
                Ok(None) => {
                    self.shared.meter.fenced.fetch_add(1, Relaxed);
                    tracing::warn!(saga_id = %self.lease.id, epoch = self.lease.epoch, "another coordinator has taken the saga over");
                    return None;
                }
                Err(error) => {
                    tracing::warn!(saga_id = %self.lease.id, %error, "saga not recorded; trying again");
                    failures += 1;
                    sleep(self.shared.backoff(state.step, failures)).await;
                }
            }
        }
    }

    /// The outcome, what it means for the aggregate, and its event: one transaction.
    async fn transact(&self, state: &State, event: &Event) -> sinew_sql::Result<Option<Recorded>> {
        let (shared, lease) = (self.shared, self.lease);
        let mut tx = shared.db.begin().await?;
        let Some(stored) = store::lock(&mut tx, lease).await? else { return Ok(None) };
        let known = stored.state();
        if (known.phase, known.step) != (state.phase, state.step) {
            // A commit of ours whose answer was lost.
            return Ok(Some(Recorded { state: known, change: None, cancel: stored.cancel_code }));
        }
        let now = shared.now();
        let cancel = stored.cancel_code.clone();
        let decision = decide(state, event, &shared.circumstances(&stored, now));
        if let Some(change) = &decision.change {
            // What it tells belongs to the trace of whoever began the saga.
            let context = Context { trace: self.trace, ..Context::default() };
            let recorded = shared.definition.recorder.record(&mut tx, &self.saga, decision.state.phase, change);
            context::scope(context, recorded).await?;
            let step = shared.step_name(state.step);
            let detail = change.detail();
            store::log(&mut tx, lease, Entry { at: now, step, event: change.name(), detail: &detail }).await?;
        }
        let open = !decision.state.phase.is_terminal() && !decision.state.parked;
        let last_error = if let Event::Unknown(reason) | Event::Refused(reason) = event { Some(reason.to_string()) } else { None };
        let due = open.then(|| now + shared.lease());
        let update = Update { state: &decision.state, outputs: &self.saga.outputs, last_error: last_error.as_deref(), due, now };
        store::put(&mut tx, lease, update).await?;
        let names = self.boundaries(state);
        let probe = shared.config.probe.as_ref();
        if let Some(names) = names {
            pass(&names.before_commit, probe).await;
        }
        tx.commit().await?;
        if let Some(names) = names {
            pass(&names.after_commit, probe).await;
        }
        Ok(Some(Recorded { state: decision.state, change: decision.change, cancel }))
    }

    fn boundaries(&self, state: &State) -> Option<&Boundaries> {
        let planned = self.shared.definition.steps.get(state.step)?;
        Some(if state.phase.is_forward() { &planned.act } else { &planned.undo })
    }

    fn tell(&self, state: &State, event: &Event, change: Option<&Change>) {
        let (saga_id, step) = (self.lease.id, self.shared.step_name(state.step));
        match (change, event) {
            (Some(Change::Parked(_, reason)), _) => {
                tracing::error!(%saga_id, step, %reason, "undo refused: the saga waits for an operator (resume or skip)");
            }
            (Some(change @ (Change::Compensating(_) | Change::Failed(_))), _) => {
                tracing::info!(%saga_id, step, reason = change.detail(), "saga {}", change.name());
            }
            (Some(change), _) => tracing::debug!(%saga_id, step, "saga {}", change.name()),
            (None, Event::Unknown(reason)) => tracing::warn!(%saga_id, step, %reason, "outcome unknown; trying again"),
            (None, _) => {}
        }
        if let Some(change) = change {
            self.shared.meter.changed(change);
        }
    }
}

impl<D> Shared<D> {
    /// The wait after this many unknown outcomes: doubled each time, and between half and all of that at random, so that
    /// sagas that failed together do not come back together.
    pub(crate) fn backoff(&self, step: usize, attempt: u32) -> Duration {
        let timing = self.definition.timing_of(step);
        let doubled = timing.backoff.saturating_mul(1 << attempt.saturating_sub(1).min(16)).min(timing.backoff_max);
        doubled.mul_f64(0.5 + self.rng.unit() / 2.0)
    }
}
