//! A cluster whose nodes die one after the other, always the one that leads the queue.
//!
//! `cargo xtask faults sagas --phase broker` asks for many deaths, and for a short silence after each.

use crate::{databases, stage::Stage};
use std::{sync::Mutex, time::Duration};
use testkit::RabbitMqCluster;
use tokio::time::{Instant, interval};
use uuid::Uuid;

/// Deaths of a run of the suite.
const KILLS: usize = 3;

/// Between one confirmed event and the next, in 99 of 100 deaths; of the faults command, which has the machine to itself.
const SILENCE: Duration = Duration::from_secs(2);

/// An event that often, to each of the databases.
const PACE: Duration = Duration::from_millis(20);

/// How often it is looked whether more events were confirmed.
const LOOK: Duration = Duration::from_millis(5);

/// Events that must be confirmed between one death and the next, so that each is in the middle of them.
const BETWEEN: u64 = 25;

/// How often the relay and the consumer are asked for their trouble.
const ASK: Duration = Duration::from_millis(50);

/// The longest time without a confirm since somebody last asked, and what the relay and the consumer said in it.
struct Silence {
    seen: u64,
    since: Instant,
    longest: Duration,
    told: Vec<String>,
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_of_the_queue_is_killed_again_and_again() {
    let set = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let (budget, seed) = (set("SINEW_FAULTS_BUDGET").map(Duration::from_secs), set("SINEW_FAULTS_SEED").unwrap_or(1));
    let kills = set("SINEW_FAULTS_KILLS").and_then(|kills| usize::try_from(kills).ok()).unwrap_or(KILLS);
    let began = Instant::now();
    let mut cluster = RabbitMqCluster::start().await.unwrap();
    let stages = [
        Stage::set(&cluster.url(), "on-sqlite", databases::sqlite().await).await,
        Stage::set(&cluster.url(), "on-postgres", databases::postgres().await).await,
    ];
    let _running: Vec<_> = stages.iter().flat_map(|stage| [stage.relay("a"), stage.replica("a")]).collect();
    for stage in &stages {
        stage.followed().await;
        cluster.written_down(&stage.queue()).await.unwrap();
        cluster.leader(&stage.queue()).await.unwrap();
    }
    let quiet = [Silence::at(&stages[0]), Silence::at(&stages[1])].map(Mutex::new);
    let mut silences = Vec::new();
    let deaths = async {
        for n in 0..kills {
            if budget.is_some_and(|budget| began.elapsed() > budget) {
                break;
            }
            let leader = cluster.leader(&stages[n % stages.len()].queue()).await.unwrap();
            for quiet in &quiet {
                let mut quiet = quiet.lock().unwrap();
                quiet.longest = Duration::ZERO;
                quiet.told.clear();
            }
            cluster.process(leader).unwrap().kill().unwrap();
            for stage in &stages {
                let before = stage.counted("events_relay_published_total");
                testkit::wait_for("events to be confirmed", crate::world::SOON, async || {
                    let more = stage.counted("events_relay_published_total") - before;
                    if more >= BETWEEN { Ok(()) } else { Err(format!("{more}, {:?}", stage.world.admin().list().await)) }
                })
                .await
                .unwrap();
            }
            cluster.process(leader).unwrap().restart().unwrap();
            cluster.ready(leader).await.unwrap();
            let longest = quiet.iter().map(|quiet| quiet.lock().unwrap().longest).max().unwrap();
            let told: Vec<_> = quiet.iter().flat_map(|quiet| quiet.lock().unwrap().told.clone()).collect();
            eprintln!("kill {}: silent for {longest:?} {told:?}", n + 1);
            silences.push(longest);
        }
    };
    tokio::select! {
        biased;
        () = deaths => {}
        () = change(&stages[0]) => {}
        () = change(&stages[1]) => {}
        () = listen(&stages, &quiet) => {}
        () = ask(&stages[0], &quiet[0]) => {}
        () = ask(&stages[1], &quiet[1]) => {}
    }
    let (mut events, mut lost, mut doubled, mut disordered) = (0, 0, 0, 0);
    for stage in &stages {
        stage.world.copied().await;
        let told = crate::world::settled(&stage.world).await;
        let effects = stage.world.effects().await;
        events += told;
        lost += told - i64::try_from(effects.len()).unwrap();
        doubled += effects.iter().filter(|(_, times)| *times != 1).count();
        disordered += stage.world.out_of_order().await;
    }
    silences.sort_unstable();
    let quantile = |q: f64| silences.get((silences.len() as f64 * q).ceil() as usize - 1).map_or(0, Duration::as_millis);
    let (p50, p99) = (quantile(0.5), quantile(0.99));
    let bad = lost != 0 || doubled != 0 || disordered != 0 || (budget.is_some() && p99 > SILENCE.as_millis());
    println!(
        "{{\"phase\":\"broker\",\"done\":{},\"of\":{kills},\"failed\":{},\"seed\":{seed},\"events\":{events},\"lost\":{lost},\
         \"doubled\":{doubled},\"out_of_order\":{disordered},\"publish_gap_p50_ms\":{p50},\"publish_gap_p99_ms\":{p99}}}",
        silences.len(),
        u8::from(bad),
    );
    assert!(!bad && !silences.is_empty(), "lost {lost}, twice {doubled}, out of order {disordered}; silences {silences:?}");
}

/// Changes things for ever.
async fn change(stage: &Stage) {
    let things: Vec<Uuid> = (0..5).map(|_| Uuid::now_v7()).collect();
    let mut pace = interval(PACE);
    for thing in things.iter().cycle() {
        pace.tick().await;
        stage.world.change(*thing).await;
    }
}

/// Watches the confirms for ever.
async fn listen(stages: &[Stage; 2], quiet: &[Mutex<Silence>; 2]) {
    let mut looks = interval(LOOK);
    loop {
        looks.tick().await;
        for (stage, quiet) in stages.iter().zip(quiet) {
            quiet.lock().unwrap().look(stage);
        }
    }
}

/// Asks the relay and the consumer for their trouble for ever.
async fn ask(stage: &Stage, quiet: &Mutex<Silence>) {
    let mut asks = interval(ASK);
    loop {
        asks.tick().await;
        let all = stage.world.admin().list().await.unwrap_or_default();
        let mut quiet = quiet.lock().unwrap();
        for (consumer, trouble) in all.into_iter().filter_map(|s| Some((s.consumer, s.trouble?))) {
            let told = format!("{consumer}: {trouble}");
            if !quiet.told.iter().any(|before| before.ends_with(&told)) {
                let told = format!("{:?}: {told}", quiet.since.elapsed());
                quiet.told.push(told);
            }
        }
    }
}

impl Silence {
    fn at(stage: &Stage) -> Self {
        let seen = stage.counted("events_relay_published_total");
        Self { seen, since: Instant::now(), longest: Duration::ZERO, told: Vec::new() }
    }

    fn look(&mut self, stage: &Stage) {
        let seen = stage.counted("events_relay_published_total");
        self.longest = self.longest.max(self.since.elapsed());
        if seen != self.seen {
            (self.seen, self.since) = (seen, Instant::now());
        }
    }
}
