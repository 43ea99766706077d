//! A mesh whose registry is not there when it starts: on the embedded agent, on a real Consul, and on neither.

#![allow(missing_debug_implementations, clippy::unwrap_used, clippy::expect_used)]

#[path = "support/callee.rs"]
mod callee;

use callee::{Callee, POLICIES};
use sinew::{Channel, ConsulSettings, Endpoint, Error, FixedList, Mesh, ServiceName, Standing};
use sinew_consul_embedded::Agent;
use sinew_proto::admin::v1::{GetInfoRequest, admin_service_client::AdminServiceClient, admin_service_server::AdminServiceServer};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use testkit::{consul::Consul, wait_for};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::watch::Receiver,
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

const LIMIT: Duration = Duration::from_secs(30);

/// A registry that is away until it comes.
enum Registry {
    Embedded(SocketAddr, Option<Agent>),
    Real(Box<Consul>),
}

impl Registry {
    async fn embedded() -> Self {
        Self::Embedded(SocketAddr::from(([127, 0, 0, 1], testkit::free_port().unwrap())), None)
    }

    async fn real() -> Self {
        let mut consul = Consul::start().await.unwrap();
        consul.process().kill().unwrap();
        Self::Real(Box::new(consul))
    }

    fn settings(&self) -> ConsulSettings {
        let address = match self {
            Self::Embedded(address, _) => format!("http://{address}"),
            Self::Real(consul) => consul.url(),
        };
        ConsulSettings { address, ..ConsulSettings::default() }
    }

    async fn come(&mut self) {
        match self {
            Self::Embedded(address, agent) => *agent = Some(Agent::builder().bind(*address).await.unwrap()),
            Self::Real(consul) => {
                consul.process().restart().unwrap();
                consul.ready().await.unwrap();
            }
        }
    }

    /// The names of the services that it lists.
    async fn services(&self) -> Vec<String> {
        let consul = sinew::Consul::new(self.settings()).unwrap();
        consul.services().await.unwrap().into_iter().map(|service| service.name).filter(|name| name != "consul").collect()
    }

    async fn start(&self, name: &str) -> Mesh {
        let start = Mesh::builder(name).policies(POLICIES).consul(self.settings()).start();
        timeout(LIMIT, start).await.expect("a mesh that does not wait for its registry").unwrap()
    }
}

struct Server {
    address: SocketAddr,
    standing: Receiver<Standing>,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), Error>>,
}

impl Server {
    async fn start(registry: &Registry, meta: &[(&str, &str)]) -> Self {
        let mesh = registry.start("callee").await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = mesh.server().add_service(AdminServiceServer::new(Callee));
        let server = meta.iter().fold(server, |server, (key, value)| server.meta(key, value));
        let (standing, shutdown) = (server.standing(), CancellationToken::new());
        let task = tokio::spawn(server.run_on(listener, shutdown.clone().cancelled_owned()));
        Self { address, standing, shutdown, task }
    }

    async fn stands(&mut self, what: &str, ok: impl Fn(&Standing) -> bool) {
        let waited = timeout(LIMIT, self.standing.wait_for(|s| ok(s))).await.map(|seen| seen.is_ok());
        assert_eq!(waited, Ok(true), "{what}; last seen: {:?}", self.standing.borrow());
    }

    /// A client that needs no registry.
    async fn direct(&self) -> AdminServiceClient<Channel> {
        let list = FixedList::new();
        let here = Endpoint::new("callee-0", &self.address.ip().to_string(), self.address.port());
        list.set(&ServiceName::new("callee").unwrap(), vec![here]);
        let mesh = Mesh::builder("direct").policies(POLICIES).discover(Arc::new(list)).start().await.unwrap();
        AdminServiceClient::new(mesh.channel("callee"))
    }

    async fn ended(self) -> Result<(), Error> {
        timeout(LIMIT, self.task).await.expect("ends in time").unwrap()
    }
}

/// Makes each `async fn name(registry: Registry)` two tests.
macro_rules! on_both_registries {
    ($($name:ident)*) => {$(
        mod $name {
            #[tokio::test]
            async fn embedded() {
                super::$name(super::Registry::embedded().await).await;
            }
            #[tokio::test]
            async fn consul() {
                super::$name(super::Registry::real().await).await;
            }
        }
    )*};
}

on_both_registries!(
    a_server_and_a_client_that_start_without_their_registry_meet_when_it_comes
    a_server_that_ends_before_its_registry_comes_leaves_nothing_there
    a_registration_that_is_no_good_ends_the_server
);

async fn a_server_and_a_client_that_start_without_their_registry_meet_when_it_comes(mut registry: Registry) {
    let mut server = Server::start(&registry, &[]).await;
    server.stands("the registry is away", |s| matches!(s, Standing::Waiting(why) if why.contains("cannot be reached"))).await;
    let mut direct = server.direct().await;
    assert_eq!(direct.get_info(GetInfoRequest {}).await.unwrap().get_ref().service, "callee");

    let caller = registry.start("caller").await;
    let mut client = AdminServiceClient::new(caller.channel("callee"));
    let early = client.get_info(GetInfoRequest {});
    assert!(timeout(Duration::from_millis(200), early).await.is_err(), "nobody is known yet: the call waits");
    registry.come().await;
    server.stands("registered", |s| *s == Standing::Registered).await;
    wait_for("an answer over the mesh", LIMIT, async || {
        client.get_info(GetInfoRequest {}).await.map(drop).map_err(|status| format!("{status:?}; {:?}", caller.destinations()))
    })
    .await
    .unwrap();

    assert_eq!(registry.services().await, ["callee"]);
    server.shutdown.cancel();
    server.ended().await.unwrap();
    wait_for("nothing left", LIMIT, async || match registry.services().await {
        left if left.is_empty() => Ok(()),
        left => Err(format!("{left:?}")),
    })
    .await
    .unwrap();
}

async fn a_server_that_ends_before_its_registry_comes_leaves_nothing_there(mut registry: Registry) {
    let mut server = Server::start(&registry, &[]).await;
    server.stands("the registry is away", |s| matches!(s, Standing::Waiting(_))).await;
    server.shutdown.cancel();
    server.ended().await.unwrap();
    registry.come().await;
    assert_eq!(registry.services().await, [""; 0]);
}

async fn a_registration_that_is_no_good_ends_the_server(mut registry: Registry) {
    registry.come().await;
    let server = Server::start(&registry, &[("note", &"x".repeat(513))]).await;
    let address = registry.settings().address;
    let error = server.ended().await.expect_err("Consul takes no value of that length");
    assert_eq!(error.exit_code(), 69);
    let text = sinew_core::chain(&error);
    assert!(text.contains(&format!("the registry at {address} refused the registration of callee-0")), "{text}");
    assert_eq!(registry.services().await, [""; 0]);
}

#[tokio::test]
async fn a_registry_that_says_nothing_holds_up_neither_the_start_nor_the_end() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let registry = Registry::Embedded(silent.local_addr().unwrap(), None);
    let start = Instant::now();
    let server = Server::start(&registry, &[]).await;
    let mut direct = server.direct().await;
    direct.get_info(GetInfoRequest {}).await.unwrap();
    // An answer of the registry would be waited for 8 s, of one that has us 3 s twice.
    assert!(start.elapsed() < Duration::from_secs(3), "serving after {:?}", start.elapsed());
    let start = Instant::now();
    server.shutdown.cancel();
    server.ended().await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(3), "ended after {:?}", start.elapsed());
}

#[tokio::test]
async fn a_registry_that_refuses_to_be_asked_is_named_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let registry = Registry::Embedded(listener.local_addr().unwrap(), None);
    let forbid = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let asked = stream.read(&mut [0; 1024]).await.unwrap();
        let answer = "HTTP/1.1 403 Forbidden\r\ncontent-length: 17\r\n\r\nPermission denied";
        stream.write_all(answer.as_bytes()).await.unwrap();
        asked
    };
    let start = Mesh::builder("callee").consul(registry.settings()).start();
    let (asked, started) = timeout(LIMIT, async { tokio::join!(forbid, start) }).await.unwrap();
    let error = started.expect_err("must not start");
    assert!(asked > 0 && error.exit_code() == 69);
    let text = sinew_core::chain(&error);
    let names = [registry.settings().address, "CONSUL_HTTP_ADDR".into(), "Permission denied".into()];
    assert!(names.iter().all(|name| text.contains(name)), "{text}");
}
