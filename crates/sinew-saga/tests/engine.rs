//! Sagas are proved, not sampled: every step with every outcome, every boundary with a death, on both databases.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests count as tests")]

#[path = "../../sinew-sql/tests/databases/mod.rs"]
mod databases;
mod world;

use databases::{Database, on_both};
use serde_json::json;
use sinew_core::{SystemClock, stats::Registry};
use sinew_proto::saga::v1::{
    GetSagaRequest, ListSagasRequest, ResumeSagaRequest, SagaState, SkipStepRequest, saga_service_client::SagaServiceClient,
};
use sinew_saga::{CancelOutcome, Config, Error, Filter, Phase, Saga, StepTiming};
use std::{sync::atomic::Ordering::Relaxed, time::Duration};
use tonic::Code;
use world::{Answer, Gate, STEPS, Shop, fast};

on_both! {
    steps_run_in_order_and_tell_the_aggregate
    every_step_refused_is_compensated_in_reverse
    every_unknown_outcome_is_tried_again
    an_outcome_unknown_for_too_long_is_undone
    undos_are_retried_until_they_succeed
    a_death_at_every_boundary_is_survived
    a_frozen_coordinator_cannot_write
    two_coordinators_share_the_work
    a_cancel_ends_a_saga_that_waits
    a_cancel_is_too_late_after_the_end
    a_refused_undo_is_parked_resumed_and_skipped
    operators_see_the_history_over_grpc
    an_ending_replica_hands_over_at_once
    a_panicking_step_is_tried_again
    a_step_takes_its_own_time
    answers_of_steps_outlive_their_coordinator
    an_answer_that_cannot_be_read_waits_for_code_that_can
    gauges_tell_how_many_there_are_and_how_old
}

/// `+one`, `+two`.
fn calls(sign: char, steps: impl IntoIterator<Item = usize>) -> Vec<String> {
    steps.into_iter().map(|step| format!("{sign}{}", STEPS[step])).collect()
}

async fn steps_run_in_order_and_tell_the_aggregate(database: Database) {
    let shop = Shop::open(database).await;
    // So rare a scan finds nothing: the new saga wakes the coordinator.
    let replica = shop.replica(Config { scan: Duration::from_secs(3_600), ..Config::default() }).await;
    let id = shop.start(&replica).await;
    assert_eq!(shop.end(&replica, id).await.state.phase, Phase::Completed);
    assert_eq!(shop.world.effects(id), calls('+', 0..3));
    assert_eq!(shop.told(id).await, ["done 0", "done 1", "completed"]);
    let (saga, log) = replica.sagas.get(id).await.unwrap();
    assert_eq!((saga.epoch, saga.owner), (1, None));
    assert_eq!(log.iter().map(|entry| &*entry.event).collect::<Vec<_>>(), ["started", "done", "done", "completed"]);
}

async fn every_step_refused_is_compensated_in_reverse(database: Database) {
    let shop = Shop::open(database).await;
    let replica = shop.replica(fast()).await;
    for (step, name) in STEPS.into_iter().enumerate() {
        shop.world.script(&format!("+{name}"), &[Answer::Refuse]);
        let id = shop.start(&replica).await;
        let saga = shop.end(&replica, id).await;
        assert_eq!((saga.state.phase, saga.state.reason.unwrap().code.as_str()), (Phase::Failed, "REFUSED"));
        let expected = [calls('+', 0..step), calls('-', (0..step).rev())].concat();
        assert_eq!(shop.world.effects(id), expected, "step {step}");
        assert_eq!(shop.told(id).await.last().unwrap(), "failed REFUSED");
    }
}

async fn every_unknown_outcome_is_tried_again(database: Database) {
    let shop = Shop::open(database).await;
    let replica = shop.replica(fast()).await;
    for step in STEPS {
        for answer in [Answer::Lost, Answer::ReplyLost] {
            shop.world.script(&format!("+{step}"), &[answer; 3]);
            let id = shop.start(&replica).await;
            assert_eq!(shop.end(&replica, id).await.state.phase, Phase::Completed, "{step} {answer:?}");
            assert_eq!(shop.world.effects(id), calls('+', 0..3));
            assert_eq!(shop.told(id).await, ["done 0", "done 1", "completed"]);
        }
    }
}

async fn an_outcome_unknown_for_too_long_is_undone(database: Database) {
    let shop = Shop::open(database).await.timing(|timing| timing.patience = Duration::ZERO);
    let replica = shop.replica(fast()).await;
    for (step, name) in STEPS.into_iter().enumerate() {
        for answer in [Answer::Lost, Answer::ReplyLost] {
            shop.world.script(&format!("+{name}"), &[answer]);
            let id = shop.start(&replica).await;
            assert_eq!(shop.end(&replica, id).await.state.phase, Phase::Failed);
            let done = if answer == Answer::Lost { step } else { step + 1 };
            // The uncertain step is undone whether it had its effect or not.
            let expected = [calls('+', 0..done), calls('-', (0..=step).rev())].concat();
            assert_eq!(shop.world.effects(id), expected, "step {step} {answer:?}");
        }
    }
}

async fn undos_are_retried_until_they_succeed(database: Database) {
    let shop = Shop::open(database).await;
    let replica = shop.replica(fast()).await;
    shop.world.script("+three", &[Answer::Refuse]);
    shop.world.script("-two", &[Answer::Lost; 12]);
    shop.world.script("-one", &[Answer::ReplyLost; 12]);
    let id = shop.start(&replica).await;
    assert_eq!(shop.end(&replica, id).await.state.phase, Phase::Failed);
    assert_eq!(shop.world.effects(id), ["+one", "+two", "-two", "-one"]);
    assert_eq!(shop.told(id).await, ["done 0", "done 1", "compensating", "undone 1", "failed REFUSED"]);
}

async fn a_death_at_every_boundary_is_survived(database: Database) {
    let shop = Shop::open(database).await;
    for point in shop.definition().failpoints() {
        let undo = point.contains(".undo.");
        // To come to every undo, a cancel arrives when the last step's outcome is unknown: the owner dies right before.
        let (gate, probe) = Gate::new(if undo { "three.before_call" } else { &point }, None);
        let first = shop.replica(Config { probe: Some(probe), ..fast() }).await;
        let id = shop.start(&first).await;
        gate.reached().await;
        if undo {
            let mut tx = shop.db.begin().await.unwrap();
            assert_eq!(first.sagas.cancel(&mut tx, id, "CANCELLED").await.unwrap(), CancelOutcome::Accepted);
            tx.commit().await.unwrap();
        }
        first.die().await;
        if undo {
            let (gate, probe) = Gate::new(&point, None);
            let second = shop.replica(Config { probe: Some(probe), ..fast() }).await;
            gate.reached().await;
            second.die().await;
        }
        let survivor = shop.replica(fast()).await;
        let saga = shop.end(&survivor, id).await;
        let (effects, told) = (shop.world.effects(id), shop.told(id).await);
        if undo {
            assert_eq!(saga.state.reason.unwrap().code, "CANCELLED", "{point}");
            assert_eq!(effects, ["+one", "+two", "-three", "-two", "-one"], "{point}");
            assert_eq!(told, ["done 0", "done 1", "compensating", "undone 2", "undone 1", "failed CANCELLED"], "{point}");
        } else {
            assert_eq!(saga.state.phase, Phase::Completed, "{point}");
            assert_eq!(effects, calls('+', 0..3), "{point}");
            assert_eq!(told, ["done 0", "done 1", "completed"], "{point}");
        }
        survivor.stop().await;
    }
}

async fn a_frozen_coordinator_cannot_write(database: Database) {
    let shop = Shop::open(database).await;
    let (gate, probe) = Gate::new("two.after_call", Some("saga.renew"));
    let frozen = shop.replica(Config { probe: Some(probe), ..fast() }).await;
    let id = shop.start(&frozen).await;
    gate.reached().await;
    let healthy = shop.replica(fast()).await;
    let saga = shop.end(&healthy, id).await;
    assert_eq!((saga.state.phase, saga.epoch), (Phase::Completed, 2));
    let told = shop.told(id).await;
    gate.open();
    let fenced = Registry::global().counter("saga_fenced_writes_total", vec![("saga", saga.kind.clone())]);
    let refused = async || match fenced.load(Relaxed) {
        0 => Err("no write was refused".to_owned()),
        _ => Ok(()),
    };
    testkit::wait_for("the frozen one's write", Duration::from_secs(10), refused).await.unwrap();
    assert_eq!(shop.told(id).await, told);
    assert_eq!(shop.world.effects(id), calls('+', 0..3));
    assert_eq!(healthy.sagas.get(id).await.unwrap().0, saga);
}

async fn two_coordinators_share_the_work(database: Database) {
    let shop = Shop::open(database).await;
    // Fewer places than sagas: most are born without an owner and go to whoever has room.
    let (one, two) = (shop.replica(Config { places: 8, ..fast() }).await, shop.replica(Config { places: 8, ..fast() }).await);
    let mut ids = Vec::new();
    for i in 0..200 {
        ids.push(shop.start(if i % 2 == 0 { &one } else { &two }).await);
    }
    for &id in &ids {
        assert_eq!(shop.end(&one, id).await.state.phase, Phase::Completed);
        assert_eq!(shop.world.effects(id), calls('+', 0..3));
        assert_eq!(shop.told(id).await, ["done 0", "done 1", "completed"]);
    }
    let listed = one.sagas.list(Filter { phase: Some(Phase::Completed), parked: false }, None, 500).await.unwrap();
    assert_eq!(listed.len(), 200);
}

async fn a_cancel_ends_a_saga_that_waits(database: Database) {
    let shop = Shop::open(database).await.timing(|timing| {
        timing.backoff = Duration::from_secs(600);
        timing.backoff_max = Duration::from_secs(600);
    });
    let replica = shop.replica(fast()).await;
    shop.world.script("+two", &[Answer::ReplyLost]);
    let id = shop.start(&replica).await;
    shop.until(&replica, id, |saga| saga.state.attempt == 1).await;
    let cancel = async || {
        let mut tx = shop.db.begin().await.unwrap();
        let outcome = replica.sagas.cancel(&mut tx, id, "CANCELLED").await.unwrap();
        tx.commit().await.unwrap();
        outcome
    };
    assert_eq!(cancel().await, CancelOutcome::Accepted);
    assert_eq!(shop.end(&replica, id).await.state.reason.unwrap().code, "CANCELLED");
    assert_eq!(shop.world.effects(id), ["+one", "+two", "-two", "-one"]);
    assert_eq!(cancel().await, CancelOutcome::TooLate(Phase::Failed));
}

async fn a_cancel_is_too_late_after_the_end(database: Database) {
    let shop = Shop::open(database).await;
    let replica = shop.replica(fast()).await;
    let id = shop.start(&replica).await;
    shop.end(&replica, id).await;
    let mut tx = shop.db.begin().await.unwrap();
    let outcome = replica.sagas.cancel(&mut tx, id, "CANCELLED").await.unwrap();
    assert_eq!(outcome, CancelOutcome::TooLate(Phase::Completed));
    let unknown = uuid::Uuid::now_v7();
    assert!(matches!(replica.sagas.cancel(&mut tx, unknown, "CANCELLED").await, Err(Error::NotFound(id)) if id == unknown));
}

async fn a_refused_undo_is_parked_resumed_and_skipped(database: Database) {
    let shop = Shop::open(database).await;
    let replica = shop.replica(fast()).await;
    shop.world.script("+three", &[Answer::Refuse]);
    shop.world.script("-two", &[Answer::Refuse, Answer::Refuse]);
    let id = shop.start(&replica).await;
    let parked = shop.until(&replica, id, |saga| saga.state.parked).await;
    assert_eq!((parked.step, parked.state.phase), ("two", Phase::Compensating));
    assert_eq!(replica.sagas.list(Filter { phase: None, parked: true }, None, 10).await.unwrap(), [parked]);
    replica.sagas.resume(id, "tested").await.unwrap();
    let again = shop.until(&replica, id, |saga| saga.state.parked).await;
    assert!(again.epoch > 1);
    assert!(matches!(replica.sagas.skip(id, "one", "").await, Err(Error::NotParked(_))));
    replica.sagas.skip(id, "two", "by hand").await.unwrap();
    replica.sagas.skip(id, "two", "by hand").await.expect("a repeat changes nothing");
    assert_eq!(shop.end(&replica, id).await.state.phase, Phase::Failed);
    assert_eq!(shop.world.effects(id), ["+one", "+two", "-one"]);
    let told = ["done 0", "done 1", "compensating", "parked 1", "parked 1", "undone 1", "failed REFUSED"];
    assert_eq!(shop.told(id).await, told);
    assert!(matches!(replica.sagas.skip(id, "one", "").await, Err(Error::NotParked(_))));
}

async fn an_ending_replica_hands_over_at_once(database: Database) {
    let shop = Shop::open(database).await.timing(|timing| timing.backoff = Duration::from_secs(600));
    let long = Config { lease: Duration::from_secs(3_600), ..fast() };
    let first = shop.replica(long).await;
    shop.world.script("+two", &[Answer::Lost]);
    let id = shop.start(&first).await;
    shop.until(&first, id, |saga| saga.state.attempt == 1).await;
    first.stop().await;
    let second = shop.replica(fast()).await;
    assert_eq!(shop.end(&second, id).await.state.phase, Phase::Completed);
    assert_eq!(shop.world.effects(id), calls('+', 0..3));
}

async fn a_panicking_step_is_tried_again(database: Database) {
    let shop = Shop::open(database).await;
    let replica = shop.replica(fast()).await;
    shop.world.script("+two", &[Answer::Panic]);
    let id = shop.start(&replica).await;
    assert_eq!(shop.end(&replica, id).await.state.phase, Phase::Completed);
}

async fn a_step_takes_its_own_time(database: Database) {
    let own = StepTiming { patience: Some(Duration::ZERO), ..StepTiming::default() };
    let shop = Shop::open(database).await.second_step(own);
    let replica = shop.replica(fast()).await;
    for (n, step) in STEPS.into_iter().enumerate() {
        shop.world.script(&format!("+{step}"), &[Answer::Lost]);
        let id = shop.start(&replica).await;
        let phase = shop.end(&replica, id).await.state.phase;
        assert_eq!(phase, if n == 1 { Phase::Failed } else { Phase::Completed }, "{step}: only the second has no patience");
    }
}

async fn answers_of_steps_outlive_their_coordinator(database: Database) {
    let shop = Shop::open(database).await.timing(|timing| timing.backoff = Duration::from_secs(600));
    let first = shop.replica(fast()).await;
    shop.world.script("+three", &[Answer::Lost, Answer::Refuse]);
    let id = shop.start(&first).await;
    shop.until(&first, id, |saga| saga.state.attempt == 1).await;
    first.die().await;
    let second = shop.replica(fast()).await;
    let ended = shop.end(&second, id).await;
    let one = json!({"ticket": "one of data", "after": null});
    let two = json!({"ticket": "two of data", "after": "one of data"});
    assert_eq!(ended.outputs, [("one".to_owned(), one), ("two".to_owned(), two)]);
    assert_eq!(shop.world.returned(id), ["nothing", "two of data", "one of data"], "each undo knows what its step was answered");
}

async fn an_answer_that_cannot_be_read_waits_for_code_that_can(database: Database) {
    let shop = Shop::open(database).await.timing(|timing| timing.backoff = Duration::from_secs(600));
    let first = shop.replica(fast()).await;
    shop.world.script("+two", &[Answer::Lost, Answer::Refuse]);
    let id = shop.start(&first).await;
    shop.until(&first, id, |saga| saga.state.attempt == 1).await;
    first.die().await;
    let put = async |answer: &str| {
        let mut tx = shop.db.begin().await.unwrap();
        let sql =
            ("UPDATE sagas SET outputs = CAST($2 AS jsonb) WHERE saga_id = $1", "UPDATE sagas SET outputs = $2 WHERE saga_id = $1");
        tx.q(sql).bind(id).bind(answer).run().await.unwrap();
        tx.commit().await.unwrap();
    };
    put(r#"{"one": {"number": 7}}"#).await;
    let second = shop.replica(fast()).await;
    let unread =
        |saga: &Saga| saga.last_error.as_deref().is_some_and(|error| error.starts_with("UNREADABLE_OUTPUT: what step one"));
    let waiting = shop.until(&second, id, |saga| saga.state.phase == Phase::Compensating && unread(saga)).await;
    assert_eq!(waiting.outputs, [("one".to_owned(), json!({"number": 7}))], "it is kept as it was");
    second.die().await;
    put(r#"{"one": {"ticket": "a seventh", "after": null}}"#).await;
    let third = shop.replica(fast()).await;
    shop.end(&third, id).await;
    assert_eq!(shop.world.returned(id).last().map(String::as_str), Some("a seventh"));
}

async fn gauges_tell_how_many_there_are_and_how_old(database: Database) {
    let shop = Shop::open(database).await;
    let replica = shop.replica(fast()).await;
    shop.world.script("+two", &[Answer::Refuse]);
    shop.world.script("-one", &[Answer::Refuse]);
    let id = shop.start(&replica).await;
    let kind = shop.until(&replica, id, |saga| saga.state.parked).await.kind;
    let mut tx = shop.db.begin().await.unwrap();
    let sql = "UPDATE sagas SET started_at = $1";
    tx.q(sql).bind(sinew_sql::now(&SystemClock) - chrono::TimeDelta::hours(2)).run().await.unwrap();
    tx.commit().await.unwrap();
    replica.stop().await;
    // A replica reads them when it starts, and then now and then.
    let _replica = shop.replica(fast()).await;
    let parked = |name| Registry::global().gauge(name, vec![("saga", kind.clone()), ("phase", "parked".into())]);
    let (count, oldest) = (parked("sagas"), parked("saga_oldest_seconds"));
    let look = async || match (count.load(Relaxed), oldest.load(Relaxed)) {
        (1, 7_200..7_300) => Ok(()),
        other => Err(format!("{other:?}")),
    };
    testkit::wait_for("the gauges", Duration::from_secs(10), look).await.unwrap();
}

async fn operators_see_the_history_over_grpc(database: Database) {
    let shop = Shop::open(database).await;
    let replica = shop.replica(fast()).await;
    shop.world.script("+two", &[Answer::Refuse]);
    shop.world.script("-one", &[Answer::Refuse]);
    let id = shop.start(&replica).await;
    shop.until(&replica, id, |saga| saga.state.parked).await;
    let done = shop.start(&replica).await;
    shop.end(&replica, done).await;
    // The generated server is a tower service: a client runs on it without a network.
    let mut client = SagaServiceClient::new(replica.sagas.admin_service());
    let list = |state: SagaState, page_size, page_token| ListSagasRequest { state: state.into(), page_size, page_token };
    let parked = client.list_sagas(list(SagaState::Parked, 0, String::new())).await.unwrap().into_inner().sagas;
    assert_eq!(parked.iter().map(|saga| &*saga.id).collect::<Vec<_>>(), [id.to_string()]);
    assert_eq!((&*parked[0].step, &*parked[0].reason), ("one", "REFUSED: no"));
    let first = client.list_sagas(list(SagaState::Unspecified, 1, String::new())).await.unwrap().into_inner();
    assert_eq!(first.sagas[0].id, done.to_string(), "newest first");
    let second = client.list_sagas(list(SagaState::Unspecified, 1, first.next_page_token)).await.unwrap().into_inner();
    assert_eq!((&*second.sagas[0].id, &*second.next_page_token), (&*id.to_string(), ""));
    let skip = SkipStepRequest { saga_id: id.to_string(), step: "one".into(), note: "ann, by hand".into() };
    client.skip_step(skip).await.unwrap();
    let get = GetSagaRequest { saga_id: id.to_string() };
    let got = client.get_saga(get).await.unwrap().into_inner();
    let history: Vec<_> = got.history.iter().map(|entry| (&*entry.step, &*entry.what, &*entry.detail)).collect();
    assert_eq!(
        history,
        [
            ("", "started", ""),
            ("one", "done", ""),
            ("two", "compensating", "REFUSED: no"),
            ("one", "parked", "REFUSED: no"),
            ("one", "skipped", "ann, by hand"),
            ("one", "failed", "REFUSED: no"),
        ]
    );
    for (saga_id, code) in [("x".into(), Code::InvalidArgument), (uuid::Uuid::now_v7().to_string(), Code::NotFound)] {
        assert_eq!(client.get_saga(GetSagaRequest { saga_id }).await.unwrap_err().code(), code);
    }
    let resume = ResumeSagaRequest { saga_id: done.to_string(), note: String::new() };
    assert_eq!(client.resume_saga(resume).await.unwrap_err().code(), Code::FailedPrecondition);
}
