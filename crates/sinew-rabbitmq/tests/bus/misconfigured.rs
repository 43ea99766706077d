//! What an operator has to put right is told by name, and without secrets.

use crate::stage::Stage;
use lapin::{
    options::QueueDeclareOptions,
    types::{AMQPValue, FieldTable},
};
use sinew_rabbitmq::Bus;
use std::sync::Arc;

pub(crate) async fn a_queue_of_another_kind_is_told_by_name(stage: Stage) {
    let (_connection, channel) = stage.channel().await;
    let (name, mut arguments) = (format!("{}.dlq", stage.queue()), FieldTable::default());
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into())).insert("x-delivery-limit".into(), 5i64.into());
    channel.queue_declare(name.clone().into(), QueueDeclareOptions::durable(), arguments).await.unwrap();
    let _replica = stage.replica("a");
    let told = stage.world.subscription("the trouble", |s| s.trouble.is_some()).await;
    let trouble = told.trouble.unwrap_or_default();
    assert!(trouble.contains(&format!("queue {name:?} is there and differs in x-delivery-limit")), "{trouble}");
}

pub(crate) async fn wrong_credentials_are_told_without_the_password(stage: Stage) {
    let wrong = stage.url.replace("guest:guest@", "guest:s3cret@");
    let bus = Bus::new(&wrong, "AMQP_URL").unwrap();
    let _relay = stage.relay_of("a", &bus, Arc::new(stage.world.publication.clone()));
    let told = stage.relayed("the trouble", |s| s.trouble.is_some()).await;
    let trouble = told.trouble.unwrap_or_default();
    assert!(trouble.contains("amqp://guest@127.0.0.1") && trouble.contains("refuses us"), "{trouble}");
    assert!(!trouble.contains("s3cret"), "{trouble}");
    let error = bus.dead_letters("copier", "things").list(1).await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains("s3cret"));
}

pub(crate) async fn a_broker_that_is_not_there_is_told_by_name(stage: Stage) {
    let port = testkit::free_port().unwrap();
    let bus = Bus::new(&format!("amqp://guest:s3cret@127.0.0.1:{port}"), "AMQP_URL").unwrap();
    let _relay = stage.relay_of("a", &bus, Arc::new(stage.world.publication.clone()));
    let told = stage.relayed("the trouble", |s| s.trouble.is_some()).await;
    let trouble = told.trouble.unwrap_or_default();
    assert!(trouble.contains(&format!("127.0.0.1:{port} cannot be reached")) && !trouble.contains("s3cret"), "{trouble}");
}
