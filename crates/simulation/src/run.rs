//! One run: what is planned, the steps of the simulation, and what came of it.

use crate::{
    customer::{self, ORDERS, PLENTY, SCARCE, SHELVES},
    network,
    processes::{self, CUSTOMER, PROCESSES, process},
    stage::{Climate, SimulatedClock, Stage},
};
use anyhow::{Context, anyhow, ensure};
use checker::Books;
use shop_inventory::{Adjustment, Caller, Warehouse};
use shop_order::{Catalogue, Currency, Customer, CustomerId, Money, Product, ProductId, SqlCatalogue};
use sinew_core::Rng;
use sinew_sql::{Db, simulated::Simulation};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use uuid::Uuid;

/// How long after the last fault the last order may end. Sagas here have a fifth of their real times, and so has the 30 s
/// that the shop promises.
pub const TERMINAL: Duration = Duration::from_secs(6);

/// Faults happen until then.
const TROUBLE: Duration = Duration::from_secs(5);

/// Simulated time per step: what happens within it happens at once for the network.
const TICK: Duration = Duration::from_millis(2);

/// What is to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Decides everything that is not planned.
    pub seed: u64,
    /// Places where a process dies, one after the other: [`places`] lists them.
    pub deaths: Vec<String>,
    /// Whether processes also die at times, links fail, and databases are slow and lose connections.
    pub trouble: bool,
}

/// What happened.
#[derive(Debug)]
pub struct Outcome {
    /// Line by line, with the millisecond.
    pub told: Vec<String>,
    /// Planned deaths that did not come about: the run proves nothing of them.
    pub missed: usize,
    /// What was wrong, if anything was.
    pub error: Option<String>,
}

/// What befalls at a time.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Dies(&'static str),
    Returns(&'static str),
    Cut(&'static str, &'static str),
    Hangs(&'static str, &'static str),
    Mended(&'static str, &'static str),
}

/// Every place at which a process can die, and which a run can come to.
pub fn places() -> Vec<String> {
    let participants = shop_inventory::FAILPOINTS.iter().chain(shop_payment::FAILPOINTS).map(|place| (*place).to_owned());
    shop_order::failpoints().into_iter().chain(participants).collect()
}

/// Runs a plan, on this thread: call it on a fresh one for the run to be the same each time.
pub fn run(plan: &Plan) -> Outcome {
    let climate = if plan.trouble { bad_weather(plan.seed) } else { slow() };
    let stage = Stage::set(plan.seed, &plan.deaths, Climate::default());
    let databases = Simulation::begin(stage.weather());
    let error = story(plan, &stage, climate).err().map(|error| format!("{error:#}"));
    drop(databases);
    Outcome { told: stage.told(), missed: stage.to_come(), error }
}

/// All combinations of slow, lossy and stalling, one after another.
fn bad_weather(seed: u64) -> Climate {
    let pick = |of: [u64; 4], every: u64| of.into_iter().nth((seed / every % 4) as usize).unwrap_or_default();
    let (delay, lost, stalled) = (pick([1, 2, 3, 12], 1), pick([0, 5, 20, 60], 4), pick([0, 0, 4, 10], 16));
    Climate { delay: Duration::from_millis(delay), lost, stalled }
}

/// Nothing fails by itself, and there is time for a cancel to arrive in the middle of things.
fn slow() -> Climate {
    Climate { delay: Duration::from_millis(12), ..Climate::default() }
}

fn story(plan: &Plan, stage: &Arc<Stage>, climate: Climate) -> anyhow::Result<()> {
    on_one_thread(open())?;
    stage.climate(climate);
    let mut sim = turmoil::Builder::new()
        .rng_seed(plan.seed)
        .epoch(std::time::UNIX_EPOCH)
        .tick_duration(TICK)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(8))
        .simulation_duration(Duration::from_secs(3_600))
        .tcp_capacity(1_024)
        .enable_random_order()
        .build();
    for (service, name) in PROCESSES {
        let stage = stage.clone();
        sim.host(name, move || {
            let stage = stage.clone();
            async move { Ok(process(stage, service, name).await?) }
        });
    }
    let collected: Arc<Mutex<Option<Books>>> = Arc::default();
    let (customer, into) = (stage.clone(), collected.clone());
    sim.client("customer", async move {
        let books = customer::shop(customer).await?;
        *into.lock().unwrap_or_else(PoisonError::into_inner) = Some(books);
        Ok(())
    });

    let mut faults = if plan.trouble { trouble(stage) } else { BTreeMap::new() };
    let mut calm = None;
    loop {
        let over = sim.step().map_err(|error| anyhow!("{error}"))?;
        let now = sim.elapsed();
        for name in stage.dead() {
            network::crash(&mut sim, name);
            stage.buried(name);
            befalls(&mut faults, now + Duration::from_millis(50 + stage.rng.below(1_500)), Fault::Returns(name));
        }
        while let Some(entry) = faults.first_entry().filter(|entry| entry.key().0 <= now) {
            happen(&mut sim, stage, entry.remove());
        }
        if over {
            break;
        }
        if now >= TROUBLE && faults.is_empty() {
            let since = *calm.get_or_insert_with(|| {
                stage.climate(Climate::default());
                now
            });
            ensure!(now - since < TERMINAL, "not ended {:?} after the last fault", now - since);
        } else {
            // Also for a planned death that came late.
            calm = None;
        }
    }
    drop(sim);
    stage.climate(Climate::default());
    let mut books = collected.lock().unwrap_or_else(PoisonError::into_inner).take().context("no books")?;
    let ledger = async {
        let bank = Db::open("simulated:bank", 1).await?;
        anyhow::Ok(shop_payment::read_ledger(&bank).await?)
    };
    books.ledger = on_one_thread(ledger)?;
    let wrong = books.contradictions();
    ensure!(wrong.is_empty(), "the books disagree: {}", wrong.join("; "));
    ensure!(books.orders.len() == ORDERS, "{ORDERS} orders were placed, there are {}", books.orders.len());
    on_one_thread(told_once())
}

/// Each event of an order once.
async fn told_once() -> anyhow::Result<()> {
    let db = Db::open("simulated:order", 1).await?;
    let sql = "SELECT kind, count(*) FROM outbox GROUP BY aggregate, kind HAVING count(*) > 1";
    let twice: Vec<(String, i64)> = db.snapshot().await?.q(sql).all().await?;
    ensure!(twice.is_empty(), "told more than once: {twice:?}");
    Ok(())
}

fn befalls(faults: &mut BTreeMap<(Duration, u64), Fault>, at: Duration, fault: Fault) {
    let n = faults.len() as u64;
    let free = (n..).find(|n| !faults.contains_key(&(at, *n))).unwrap_or(n);
    faults.insert((at, free), fault);
}

/// Two to seven faults and their ends, some at the same time.
fn trouble(stage: &Stage) -> BTreeMap<(Duration, u64), Fault> {
    let mut faults = BTreeMap::new();
    let rng = &stage.rng;
    let any = || PROCESSES[rng.below(PROCESSES.len() as u64) as usize].1;
    for _ in 0..2 + rng.below(6) {
        let from = Duration::from_millis(rng.below(4_000));
        let to = from + Duration::from_millis(20 + rng.below(1_500));
        let (one, other) = (any(), any());
        let (begin, end) = match rng.below(4) {
            0 | 1 => (Fault::Dies(one), Fault::Returns(one)),
            2 if one != other => (Fault::Cut(one, other), Fault::Mended(one, other)),
            3 if one != other => (Fault::Hangs(one, other), Fault::Mended(one, other)),
            _ => continue,
        };
        befalls(&mut faults, from, begin);
        befalls(&mut faults, to, end);
    }
    faults
}

fn happen(sim: &mut turmoil::Sim<'_>, stage: &Stage, fault: Fault) {
    stage.tell_at(sim.elapsed(), format!("{fault:?}"));
    match fault {
        Fault::Dies(one) => {
            if sim.is_host_running(one) {
                network::crash(sim, one);
            }
        }
        Fault::Returns(one) => {
            if !sim.is_host_running(one) {
                network::bounce(sim, one);
            }
        }
        Fault::Cut(one, other) => sim.partition(one, other),
        Fault::Hangs(one, other) => sim.hold(one, other),
        Fault::Mended(one, other) => {
            sim.release(one, other);
            sim.repair(one, other);
        }
    }
}

/// The databases as they are before the first order.
async fn open() -> anyhow::Result<()> {
    let id = |text: &str| text.parse::<Uuid>().context("an id");
    let orders = Db::open("simulated:order", 1).await?;
    orders.migrate(&sinew_events::migrations()).await?;
    orders.migrate(&shop_order::migrations()).await?;
    let catalogue = SqlCatalogue::new(orders);
    catalogue.put_customer(&Customer { id: CustomerId(id(CUSTOMER)?), name: "Ada".to_owned(), version: 1 }).await?;
    for product in [PLENTY, SCARCE] {
        let price = Money { amount: 250, currency: Currency::EUR };
        let product = Product { id: ProductId(id(product)?), name: "Cup".to_owned(), price, version: 1 };
        catalogue.put_product(&product).await?;
    }
    let app = shop_inventory::App::build_with(processes::inventory_config(), Arc::new(SimulatedClock)).await?;
    for (product, pieces) in SHELVES {
        let (product, key) = (shop_inventory::ProductId(id(product)?), product.to_owned());
        let caller = Caller("seed".to_owned());
        app.warehouse().adjust(&Adjustment { product, delta: pieces, key, caller }).await?;
    }
    shop_payment::App::build_with(processes::payment_config(), Arc::new(SimulatedClock)).await?;
    Ok(())
}

/// Before and after the simulation.
fn on_one_thread<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?.block_on(work)
}
