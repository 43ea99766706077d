//! Every fault at every place of the order saga and its participants: every order still ends, and everything happened
//! exactly once.

use super::{Share, shuffle};
use crate::{
    engines::Engines,
    world::{Kind, PLENTY, SCARCE, SOON, World},
};
use anyhow::ensure;
use contracts::order::v1::{CancelOrderRequest, OrderState};
use std::{fmt, time::Duration};
use testkit::wait_for;
use tokio::time::Instant;

/// From the moment the dead process is back.
const TERMINAL: Duration = Duration::from_secs(10);

/// While a process is frozen, from the moment the other one is there.
const TAKEN_OVER: Duration = Duration::from_secs(30);

/// Orders whose bank is silent may take until the saga's patience with it ends.
const SILENT_BANK: Duration = Duration::from_secs(40);

/// How a process fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is killed.
    Kill,
    /// It freezes, past all leases, and thaws when others have gone on.
    Stop,
    /// The work at that place is torn down.
    Panic,
    /// What is sent or written there is sent or written twice.
    Twice,
}

/// One fault at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Case {
    service: &'static str,
    place: String,
    pub(super) fault: Fault,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kill => "kill",
            Self::Stop => "stop",
            Self::Panic => "panic",
            Self::Twice => "twice",
        })
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.place, self.fault)
    }
}

/// Every place with every fault that it knows.
pub(super) fn cases() -> Vec<Case> {
    let mut places: Vec<(&str, String)> = shop_order::failpoints().into_iter().map(|place| ("order", place)).collect();
    places.extend(shop_inventory::FAILPOINTS.iter().map(|place| ("inventory", (*place).to_owned())));
    places.extend(shop_payment::FAILPOINTS.iter().map(|place| ("payment", (*place).to_owned())));
    let known = |place: &str| {
        let mut faults = vec![Fault::Kill, Fault::Stop, Fault::Panic];
        if place.starts_with("order.saga.") && !place.ends_with(".before_commit") {
            faults.push(Fault::Twice);
        }
        faults
    };
    let of_one = |(service, place): (&'static str, String)| {
        known(&place).into_iter().map(move |fault| Case { service, place: place.clone(), fault })
    };
    places.into_iter().flat_map(of_one).collect()
}

/// Each of them alone.
pub(super) async fn every_fault(share: Share) -> anyhow::Result<()> {
    let all = cases();
    suffer_all("every fault at every place", all.iter().map(|case| vec![case]).collect(), share).await
}

/// Pairs of kills, in an order drawn by the seed.
pub(super) async fn pairs(share: Share) -> anyhow::Result<()> {
    let all = cases();
    let kills: Vec<&Case> = all.iter().filter(|case| case.fault == Fault::Kill).collect();
    let mut pairs: Vec<Vec<&Case>> = kills.iter().flat_map(|a| kills.iter().map(|b| vec![*a, *b])).collect();
    shuffle(&mut pairs, share.seed);
    suffer_all("a kill and then another", pairs, share).await
}

/// As many as the budget allows. Writes a JSON object for each.
async fn suffer_all(phase: &str, all: Vec<Vec<&Case>>, share: Share) -> anyhow::Result<()> {
    let (mut done, mut failed, of) = (0u32, 0u32, all.len());
    let mut world = World::start_on(Kind::Consul, Some(Engines::start().await?)).await?;
    for faults in all {
        if share.is_over() {
            break;
        }
        let (case, since) = (faults.iter().map(ToString::to_string).collect::<Vec<_>>().join(" then "), Instant::now());
        let mut outcome = Ok(());
        for fault in faults {
            outcome = outcome.and(world.suffer(fault).await);
        }
        done += 1;
        let error = outcome.as_ref().err().map(|e| format!("{e:#}"));
        let seconds = since.elapsed().as_secs_f64();
        println!("{}", serde_json::json!({ "case": case, "held": error.is_none(), "seconds": seconds, "error": error }));
        if error.is_some() {
            failed += 1;
            // What it left behind must not count against the next one.
            world = World::start_on(Kind::Consul, Some(Engines::start().await?)).await?;
        }
    }
    println!("{}", serde_json::json!({ "phase": phase, "done": done, "of": of, "failed": failed, "seed": share.seed }));
    ensure!(failed == 0 && done > 0, "{failed} of {done} faults left more than one story");
    Ok(())
}

impl World {
    /// One replica fails; afterwards all orders have ended and all books agree.
    pub(super) async fn suffer(&mut self, case: &Case) -> anyhow::Result<()> {
        let Case { service, fault, .. } = case;
        let (armed, other) = (format!("{service}-0"), format!("{service}-1"));
        // The one that is armed is alone, so that its place is reached; the other comes back when it has failed.
        self.leave(&other).await?;
        self.run(service, 0, Some(&case.to_string()))?;
        self.passing(service, 1, SOON).await?;
        let silent = self.until_hit(&armed, case).await?;
        if *fault == Fault::Stop {
            // A test that froze others for a while may have thawed it.
            self.replica(&armed)?.freeze()?;
        }
        self.run(service, 1, None)?;
        match fault {
            Fault::Kill => {
                self.run(service, 0, None)?;
                self.all_passing(SOON).await?;
                self.all_ended(&silent, TERMINAL).await?;
            }
            Fault::Stop => {
                self.all_ended(&silent, TAKEN_OVER).await?;
                self.replica(&armed)?.thaw()?;
                self.all_passing(SOON).await?;
            }
            Fault::Panic | Fault::Twice => {
                self.all_passing(SOON).await?;
                self.all_ended(&silent, TERMINAL).await?;
            }
        }
        self.all_ended(&[], SILENT_BANK).await?;
        self.books_agree().await?;
        if *fault != Fault::Kill {
            self.leave(&armed).await?;
            self.run(service, 0, None)?;
            self.all_passing(SOON).await?;
        }
        Ok(())
    }

    /// Places orders of every kind until the armed process has failed; gives those whose bank is silent. Answers may be
    /// missing: the one who would give them may be the one who fails.
    async fn until_hit(&mut self, armed: &str, case: &Case) -> anyhow::Result<Vec<String>> {
        let mut silent = Vec::new();
        for round in 0.. {
            if case.place.starts_with("payment.refund.") {
                self.turn_back_after_a_charge().await?;
                // The lease of the dead coordinator must end first.
                if self.hit(armed, case, TERMINAL).await.is_ok() {
                    break;
                }
            }
            let wishes = [(PLENTY, 1, "tok_ok"), (PLENTY, 1, "tok_declined"), (SCARCE, 4, "tok_ok"), (PLENTY, 1, "tok_timeout")];
            for (product, quantity, card) in wishes {
                let Ok(order) = self.place(product, quantity, card).await else { continue };
                if card == "tok_timeout" {
                    let cancel = CancelOrderRequest { idempotency_key: order.order_id.clone(), order_id: order.order_id.clone() };
                    self.orders().cancel_order(self.request(cancel)?).await.ok();
                    silent.push(order.order_id);
                }
            }
            if round > 0 {
                silent.extend(self.cancel_while_payment_is_frozen().await.unwrap_or_default());
            }
            // Sagas take milliseconds; the second round leaves time for an attempt to run out.
            let limit = Duration::from_secs(if round > 0 { 6 } else { 2 });
            match self.hit(armed, case, limit).await {
                Ok(()) => break,
                Err(error) => ensure!(round < 3, "{} is never reached: {error}", case.place),
            }
        }
        Ok(silent)
    }

    /// Waits until the armed process has failed.
    async fn hit(&mut self, armed: &str, case: &Case, limit: Duration) -> anyhow::Result<()> {
        if case.fault == Fault::Kill {
            return self.dies(armed, limit).await;
        }
        let told = format!("failpoint {}: {:?}", case.place, case.fault);
        wait_for(&format!("{case} at {armed}"), limit, async || {
            let log = self.replica(armed).map_err(|e| e.to_string())?.log();
            if log.contains(&told) { Ok(()) } else { Err("it goes on as if nothing were".to_owned()) }
        })
        .await
    }

    /// Waits until a replica has died.
    async fn dies(&mut self, replica: &str, limit: Duration) -> anyhow::Result<()> {
        wait_for(&format!("the death of {replica}"), limit, async || {
            let ended = self.replica(replica).map_err(|e| e.to_string())?.ended();
            ended.map(drop).ok_or_else(|| "it lives".to_owned())
        })
        .await
    }

    /// An order that turns back while nobody knows whether it was charged: the way to a refund.
    async fn cancel_while_payment_is_frozen(&mut self) -> anyhow::Result<Vec<String>> {
        let alive: Vec<_> =
            ["payment-0", "payment-1"].into_iter().filter(|p| self.replica(p).is_ok_and(|r| r.ended().is_none())).collect();
        for payment in &alive {
            self.replica(payment)?.freeze()?;
        }
        let turned = self.turn_back().await;
        for payment in &alive {
            self.replica(payment)?.thaw()?;
        }
        turned
    }

    async fn turn_back(&self) -> anyhow::Result<Vec<String>> {
        let order_id = self.place(PLENTY, 1, "tok_ok").await?.order_id;
        self.reaches(&order_id, OrderState::Processing).await?;
        let cancel = CancelOrderRequest { idempotency_key: order_id.clone(), order_id: order_id.clone() };
        self.orders().cancel_order(self.request(cancel)?).await?;
        self.reaches(&order_id, OrderState::Compensating).await?;
        Ok(vec![order_id])
    }

    /// An order that turns back with its money taken: its coordinator dies when it has charged and not yet written that
    /// down, and before another takes over it is cancelled.
    async fn turn_back_after_a_charge(&mut self) -> anyhow::Result<()> {
        for replica in ["order-0", "order-1"] {
            self.leave(replica).await?;
        }
        self.run("order", 0, Some("order.saga.charge.after_call=kill"))?;
        self.passing("order", 1, SOON).await?;
        let order_id = self.place(PLENTY, 1, "tok_ok").await?.order_id;
        self.dies("order-0", SOON).await?;
        for replica in 0..2 {
            self.run("order", replica, None)?;
        }
        let cancel = CancelOrderRequest { idempotency_key: order_id.clone(), order_id: order_id.clone() };
        wait_for("the cancellation", SOON, async || {
            let request = self.request(cancel.clone()).map_err(|e| e.to_string())?;
            match self.orders().cancel_order(request).await {
                Ok(_) => Ok(()),
                // Too late: somebody took over and completed it. The next round tries again.
                Err(status) if status.code() == tonic::Code::FailedPrecondition => Ok(()),
                Err(status) => Err(status.to_string()),
            }
        })
        .await
    }

    async fn reaches(&self, order_id: &str, state: OrderState) -> anyhow::Result<()> {
        wait_for(&format!("{state:?}"), TERMINAL, async || {
            let order = self.order(order_id).await.map_err(|e| e.to_string())?;
            if order.state() == state { Ok(()) } else { Err(format!("{order:?}")) }
        })
        .await
    }
}
