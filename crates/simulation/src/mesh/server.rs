//! A server's process: the mesh's own server, between simulated edges.

use super::{
    directory::Announcer,
    echo::EchoServer,
    settings,
    world::{Harm, World, now},
};
use crate::{network::Door, stage::SimulatedClock};
use sinew_core::ServiceName;
use sinew_server::{Config, Identity, Server};
use std::{sync::Arc, time::Duration};
use tokio::time::sleep;

/// How long whoever keeps servers running waits before it starts one again that has ended by itself.
const RESTART: Duration = Duration::from_millis(100);

/// Until it dies, or has drained.
pub(super) async fn process(world: Arc<World>, name: &'static str) -> anyhow::Result<()> {
    let shutdown = world.enter(name);
    loop {
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
        match server.run_on(Door::open().await?, shutdown.clone().cancelled_owned()).await {
            Ok(()) => {
                world.tell(now(), format_args!("{name} has drained"));
                return Ok(());
            }
            // The registry did not take it. Its connections, if it had any already, are gone with it.
            Err(error) => {
                world.tell(now(), format_args!("{name} gives up: {error}"));
                world.harmed(Harm::Lost, name, None, now());
                sleep(RESTART).await;
                world.healed(Harm::Lost, name, None, now());
            }
        }
        if shutdown.is_cancelled() {
            return Ok(());
        }
    }
}
