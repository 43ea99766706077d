//! A server's process: the mesh's own server, between simulated edges.

use super::{
    directory::Announcer,
    echo::EchoServer,
    settings,
    world::{World, now},
};
use crate::{network::Door, stage::SimulatedClock};
use sinew_core::ServiceName;
use sinew_server::{Config, Identity, Server};
use std::sync::Arc;

/// Until it dies, or has drained. It serves from its start, whatever the registry does.
pub(super) async fn process(world: Arc<World>, name: &'static str) -> anyhow::Result<()> {
    let shutdown = world.enter(name);
    let identity = Identity {
        service: ServiceName::new("echo")?,
        instance: name.to_owned(),
        version: String::new(),
        advertise_host: Some(name.to_owned()),
        advertise_port: None,
    };
    let config = Config {
        limits: settings::limits(),
        register: Some(Arc::new(Announcer(world.clone()))),
        clock: Arc::new(SimulatedClock),
        ..Config::new(identity)
    };
    let server = Server::new(config).add_service(EchoServer { world: world.clone(), server: name });
    server.run_on(Door::open().await?, shutdown.cancelled_owned()).await?;
    world.tell(now(), format_args!("{name} has drained"));
    Ok(())
}
