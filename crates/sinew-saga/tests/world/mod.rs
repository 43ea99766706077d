//! Participants, an aggregate and replicas, all in one process, that a test can make fail, freeze and die.

use crate::databases::Database;
use serde::{Deserialize, Serialize};
use sinew_core::{BoxFuture, SharedRng, SystemClock};
use sinew_saga::{
    Change, Config, Coordinator, Definition, Failure, Instance, Phase, Probe, Reason, Recorder, Saga, Sagas, Step, StepTiming,
    Timing,
};
use sinew_sql::{DEFAULT_CONNECTIONS, Db, Tx};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{sync::watch, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub(crate) const STEPS: [&str; 3] = ["one", "two", "three"];

/// What a participant answers to one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Refuse,
    /// The call never arrived.
    Lost,
    /// It had its effect, but the answer never arrived.
    ReplyLost,
    Panic,
}

/// The participants' own state: what took effect, and what they were told to answer.
#[derive(Debug, Default)]
pub(crate) struct World {
    /// By saga, in order: `+one`, `-one`. Repeats leave no trace, as participants dedup.
    effects: Mutex<BTreeMap<Uuid, Vec<String>>>,
    /// By call, `+one`: answers to give before working normally.
    scripts: Mutex<BTreeMap<String, VecDeque<Answer>>>,
    /// By saga: the tickets that undos gave back.
    returned: Mutex<BTreeMap<Uuid, Vec<String>>>,
}

impl World {
    pub(crate) fn script(&self, call: &str, answers: &[Answer]) {
        self.scripts.lock().unwrap().entry(call.to_owned()).or_default().extend(answers);
    }

    pub(crate) fn effects(&self, id: Uuid) -> Vec<String> {
        self.effects.lock().unwrap().get(&id).cloned().unwrap_or_default()
    }

    pub(crate) fn returned(&self, id: Uuid) -> Vec<String> {
        self.returned.lock().unwrap().get(&id).cloned().unwrap_or_default()
    }

    fn call(&self, id: Uuid, call: String) -> Result<(), Failure> {
        let answer = self.scripts.lock().unwrap().get_mut(&call).and_then(VecDeque::pop_front);
        let lost = || Failure::Unknown(Reason::new("UNAVAILABLE", "lost"));
        match answer {
            Some(Answer::Refuse) => return Err(Failure::Refused(Reason::new("REFUSED", "no"))),
            Some(Answer::Lost) => return Err(lost()),
            Some(Answer::Panic) => panic!("a step of the test panics"),
            Some(Answer::ReplyLost) | None => {}
        }
        let mut effects = self.effects.lock().unwrap();
        let effects = effects.entry(id).or_default();
        let undo = call.replace('+', "-");
        if !effects.contains(&call) {
            // An undo of what was never done is accepted; a do after its undo is refused.
            if call.starts_with('+') && effects.contains(&undo) {
                return Err(Failure::Refused(Reason::new("UNDONE", "came after its undo")));
            }
            effects.push(call);
        }
        if answer.is_some() { Err(lost()) } else { Ok(()) }
    }
}

/// The participant of one step, the `N`th.
pub(crate) struct Remote<const N: usize>(Arc<World>);

impl<const N: usize> Step<String> for Remote<N> {
    const NAME: &'static str = STEPS[N];
    type Output = Answered;

    fn act<'a>(&'a self, saga: &'a Instance<String>) -> BoxFuture<'a, Result<Answered, Failure>> {
        Box::pin(async {
            self.0.call(saga.id, format!("+{}", Self::NAME))?;
            Ok(Answered {
                ticket: format!("{} of {}", Self::NAME, saga.data),
                after: saga.output::<Remote<0>>()?.map(|one| one.ticket),
            })
        })
    }
    fn undo<'a>(&'a self, saga: &'a Instance<String>) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async {
            self.0.call(saga.id, format!("-{}", Self::NAME))?;
            let own = saga.output::<Self>()?.map_or_else(|| "nothing".to_owned(), |own| own.ticket);
            self.0.returned.lock().unwrap().entry(saga.id).or_default().push(own);
            Ok(())
        })
    }
}

/// What a participant answers.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Answered {
    pub(crate) ticket: String,
    /// The first step's ticket, as a later step saw it.
    pub(crate) after: Option<String>,
}

struct Told;

impl Recorder<String> for Told {
    fn record<'a>(
        &'a self,
        tx: &'a mut Tx,
        saga: &'a Instance<String>,
        phase: Phase,
        change: &'a Change,
    ) -> BoxFuture<'a, sinew_sql::Result<()>> {
        let what = match change {
            Change::Done(step) => format!("done {step}"),
            Change::Compensating(_) => "compensating".to_owned(),
            Change::Undone(step) => format!("undone {step}"),
            Change::Completed => "completed".to_owned(),
            Change::Failed(reason) => format!("failed {}", reason.code),
            Change::Parked(step, _) => format!("parked {step}"),
        };
        Box::pin(async move {
            let sql = "INSERT INTO told (saga_id, n, what, phase)
                       SELECT $1, coalesce(max(n), 0) + 1, $2, $3 FROM told WHERE saga_id = $1";
            tx.q(sql).bind(saga.id).bind(what).bind(phase.name()).run().await.map(drop)
        })
    }
}

/// One database, its participants, and whatever replicas a test starts.
pub(crate) struct Shop {
    pub(crate) db: Db,
    pub(crate) world: Arc<World>,
    kind: &'static str,
    timing: Timing,
    /// Of the second step alone.
    own: StepTiming,
    _database: Database,
}

/// A running replica. Dropped, it is dead at once.
pub(crate) struct Replica {
    pub(crate) sagas: Sagas<String>,
    pub(crate) shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Replica {
    /// Dies, and is gone before this returns.
    pub(crate) async fn die(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }

    pub(crate) async fn stop(mut self) {
        self.shutdown.cancel();
        (&mut self.task).await.unwrap();
    }
}

pub(crate) fn fast() -> Config {
    Config { lease: Duration::from_millis(400), scan: Duration::from_millis(40), ..Config::default() }
}

impl Shop {
    pub(crate) async fn open(database: Database) -> Self {
        let db = Db::open(&database.url, DEFAULT_CONNECTIONS).await.unwrap();
        let mut tx = db.begin().await.unwrap();
        let table = (
            "CREATE TABLE told (saga_id uuid, n bigint, what text, phase text, PRIMARY KEY (saga_id, n))",
            "CREATE TABLE told (saga_id BLOB, n INTEGER, what TEXT, phase TEXT, PRIMARY KEY (saga_id, n)) STRICT",
        );
        tx.q(table).run().await.unwrap();
        tx.commit().await.unwrap();
        let timing = Timing { backoff: Duration::from_millis(10), backoff_max: Duration::from_millis(50), ..Timing::default() };
        // Metrics are per process: a name of its own keeps each test's counters apart.
        let kind = Box::leak(format!("test-{}", Uuid::now_v7().simple()).into_boxed_str());
        Self { db, world: Arc::default(), kind, timing, own: StepTiming::default(), _database: database }
    }

    pub(crate) fn timing(mut self, change: impl FnOnce(&mut Timing)) -> Self {
        change(&mut self.timing);
        self
    }

    /// The second step takes its own time.
    pub(crate) fn second_step(mut self, own: StepTiming) -> Self {
        self.own = own;
        self
    }

    pub(crate) fn definition(&self) -> Definition<String> {
        Definition::new(self.kind, Told)
            .step(Remote::<0>(self.world.clone()))
            .step_in(self.own, Remote::<1>(self.world.clone()))
            .step(Remote::<2>(self.world.clone()))
            .timing(self.timing.clone())
    }

    pub(crate) async fn replica(&self, config: Config) -> Replica {
        let rng = Arc::new(SharedRng::seeded(7));
        let coordinator = Coordinator::new(self.db.clone(), self.definition(), config, Arc::new(SystemClock), rng).await.unwrap();
        let (sagas, shutdown) = (coordinator.sagas(), CancellationToken::new());
        let task = tokio::spawn(coordinator.run(shutdown.clone()));
        Replica { sagas, shutdown, task }
    }

    pub(crate) async fn start(&self, replica: &Replica) -> Uuid {
        let id = Uuid::now_v7();
        let mut tx = self.db.begin().await.unwrap();
        replica.sagas.start(&mut tx, id, &"data".to_owned()).await.unwrap();
        tx.commit().await.unwrap();
        id
    }

    /// Waits until the saga looks as wanted.
    pub(crate) async fn until(&self, replica: &Replica, id: Uuid, wanted: impl Fn(&Saga) -> bool) -> Saga {
        let look = async || {
            let saga = replica.sagas.get(id).await.unwrap().0;
            if wanted(&saga) { Ok(saga) } else { Err(format!("{saga:?}")) }
        };
        testkit::wait_for("the saga", Duration::from_secs(20), look).await.unwrap()
    }

    pub(crate) async fn end(&self, replica: &Replica, id: Uuid) -> Saga {
        self.until(replica, id, |saga| saga.state.phase.is_terminal()).await
    }

    /// What the aggregate was told, in order.
    pub(crate) async fn told(&self, id: Uuid) -> Vec<String> {
        let mut tx = self.db.snapshot().await.unwrap();
        let rows: Vec<(String,)> = tx.q("SELECT what FROM told WHERE saga_id = $1 ORDER BY n").bind(id).all().await.unwrap();
        rows.into_iter().map(|(what,)| what).collect()
    }
}

/// Holds a coordinator at a boundary, and lets it go.
#[derive(Clone)]
pub(crate) struct Gate {
    reached: watch::Sender<bool>,
    open: watch::Sender<bool>,
}

impl Gate {
    /// A probe that stops at the boundary whose name ends so; from then on also at those of `ever`, which never open.
    pub(crate) fn new(here: &str, ever: Option<&str>) -> (Self, Probe) {
        let gate = Self { reached: watch::Sender::new(false), open: watch::Sender::new(false) };
        let (here, ever, it) = (here.to_owned(), ever.map(str::to_owned), gate.clone());
        let probe = Probe::new(move |name| {
            if *it.reached.borrow() && ever.as_ref().is_some_and(|ever| name.ends_with(ever)) {
                return Box::pin(std::future::pending());
            }
            if !name.ends_with(&here) {
                return Box::pin(async {});
            }
            it.reached.send_replace(true);
            let mut open = it.open.subscribe();
            Box::pin(async move {
                let _ = open.wait_for(|open| *open).await;
            })
        });
        (gate, probe)
    }

    pub(crate) async fn reached(&self) {
        let mut reached = self.reached.subscribe();
        let reached = reached.wait_for(|reached| *reached);
        timeout(Duration::from_secs(20), reached).await.expect("the boundary is reached").unwrap();
    }

    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }
}
