//! Events through a real broker: nothing lost, nothing taken in twice, in order, whatever dies; on both databases.
//!
//! A broker takes seconds to start, so the scenarios of one database share one, with names of their own on it.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod broker_lost;
#[path = "../../../sinew-sql/tests/databases/mod.rs"]
mod databases;
mod dead_letters;
mod following;
mod freezer;
mod leader_lost;
mod misconfigured;
mod relaying;
mod stage;
#[allow(dead_code, reason = "made for another crate's tests")]
#[path = "../../../sinew-events/tests/delivery/world.rs"]
mod world;

use databases::on_both;
use stage::scenarios;

on_both! { on_one_broker }

scenarios! {
    following::everything_published_takes_effect_once_and_in_order
    following::a_new_consumer_takes_the_snapshot_while_events_flow
    following::a_consumer_that_hears_nothing_of_what_is_there_connects_anew
    following::what_was_not_acknowledged_comes_again_and_has_no_effect
    following::a_frozen_consumer_disturbs_nothing
    following::a_queue_that_was_lost_is_made_up_for_by_the_snapshot
    following::a_consumer_that_knew_no_broker_takes_the_snapshot
    relaying::a_dead_relay_is_followed_by_another
    relaying::a_frozen_relay_disturbs_nothing
    relaying::a_relay_that_lost_its_lease_moves_nothing
    relaying::what_the_broker_refuses_is_sent_again
    relaying::nobody_follows_and_the_relay_goes_on
    relaying::what_the_publisher_forgot_is_made_up_for_by_the_snapshot
    dead_letters::what_cannot_be_read_is_put_aside_and_replayed
    dead_letters::a_message_that_is_no_event_is_put_aside
    misconfigured::a_queue_of_another_kind_is_told_by_name
    misconfigured::wrong_credentials_are_told_without_the_password
    misconfigured::a_broker_that_is_not_there_is_told_by_name
}
