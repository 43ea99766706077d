//! What the coordinator counts.

use crate::{
    machine::Change,
    store::{self, Open},
};
use chrono::{DateTime, Utc};
use sinew_core::stats::Registry;
use sinew_sql::{Db, Result};
use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
};

/// The series of one kind of saga.
#[derive(Debug)]
pub(crate) struct Meter {
    kind: &'static str,
    /// Open sagas of all replicas: started, processing, compensating, parked.
    open: [(&'static str, Arc<AtomicI64>); 4],
    /// Seconds since the oldest of them began.
    oldest: [(&'static str, Arc<AtomicI64>); 4],
    completed: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
    /// Sagas taken from an owner whose lease had ended.
    pub(crate) takeovers: Arc<AtomicU64>,
    /// Writes refused because another had taken over.
    pub(crate) fenced: Arc<AtomicU64>,
}

impl Meter {
    pub(crate) fn new(kind: &'static str) -> Self {
        let registry = Registry::global();
        let phases = ["started", "processing", "compensating", "parked"];
        let gauge = |name: &'static str| {
            phases.map(|phase| (phase, registry.gauge(name, vec![("saga", kind.into()), ("phase", phase.into())])))
        };
        let counter = |name| registry.counter(name, vec![("saga", kind.into())]);
        Self {
            kind,
            open: gauge("sagas"),
            oldest: gauge("saga_oldest_seconds"),
            completed: counter("sagas_completed_total"),
            failed: counter("sagas_failed_total"),
            takeovers: counter("saga_takeovers_total"),
            fenced: counter("saga_fenced_writes_total"),
        }
    }

    /// Counts what this replica recorded.
    pub(crate) fn changed(&self, change: &Change) {
        match change {
            Change::Completed => self.completed.fetch_add(1, Relaxed),
            Change::Failed(_) => self.failed.fetch_add(1, Relaxed),
            Change::Done(_) | Change::Compensating(_) | Change::Undone(_) | Change::Parked(..) => 0,
        };
    }

    /// Sets the gauges from the table: they tell the same in every replica.
    pub(crate) async fn read(&self, db: &Db, now: DateTime<Utc>) -> Result<()> {
        let rows = store::open(db, self.kind).await?;
        for ((name, count), (_, oldest)) in self.open.iter().zip(&self.oldest) {
            let of = |row: &&Open| if *name == "parked" { row.parked } else { !row.parked && row.phase == *name };
            let (rows, mut sum) = (rows.iter().filter(of), 0);
            let began = rows.inspect(|row| sum += row.count).map(|row| row.oldest).min();
            count.store(sum, Relaxed);
            oldest.store(began.map_or(0, |began| (now - began).num_seconds().max(0)), Relaxed);
        }
        Ok(())
    }
}
