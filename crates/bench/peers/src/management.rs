//! The smallest management server that a client with xDS can ask: one listener, one route, one cluster, and its endpoints,
//! which never change. Once it has answered it is idle, and takes nothing from those who are measured.

use anyhow::Context;
use envoy_types::pb::{
    envoy::{
        config::{
            cluster::v3::{
                Cluster,
                cluster::{ClusterDiscoveryType, DiscoveryType, EdsClusterConfig},
            },
            core::v3::{
                Address, AggregatedConfigSource, ConfigSource, SocketAddress, address, config_source::ConfigSourceSpecifier,
                socket_address::PortSpecifier,
            },
            endpoint::v3::{ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier},
            listener::v3::{ApiListener, Listener},
            route::v3::{
                RetryPolicy, Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost, retry_policy::RetryBackOff,
                route::Action, route_action::ClusterSpecifier, route_match::PathSpecifier,
            },
        },
        extensions::filters::network::http_connection_manager::v3::{
            HttpConnectionManager, Rds, http_connection_manager::RouteSpecifier,
        },
        service::discovery::v3::{
            DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
            aggregated_discovery_service_server::{AggregatedDiscoveryService, AggregatedDiscoveryServiceServer},
        },
    },
    google::protobuf::{Any, Duration, UInt32Value},
};
use prost::Name;
use std::{net::SocketAddr, pin::Pin, sync::Arc};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_stream::{Empty, Stream, StreamExt, wrappers::TcpListenerStream};
use tonic::{Request, Response, Status, Streaming, transport::Server};

/// The name by which clients ask.
pub(crate) const LISTENER: &str = "echo";
const ROUTE: &str = "route";
const CLUSTER: &str = "cluster";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Those that it tells.
    #[arg(long, value_delimiter = ',')]
    endpoints: Vec<SocketAddr>,
}

/// Prints its address, then serves until its standard input ends.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let resources = Arc::new([listener(), route(), cluster(), assignment(&args.endpoints)]);
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("no port on loopback")?;
        println!("{}", listener.local_addr()?);
        let service = AggregatedDiscoveryServiceServer::new(Management { resources });
        let mut tasks = JoinSet::new();
        tasks.spawn(Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)));
        let orphaned = tokio::task::spawn_blocking(|| std::io::read_to_string(std::io::stdin()));
        orphaned.await?.map(drop).context("standard input")
    })
}

#[derive(Debug)]
struct Management {
    resources: Arc<[Any; 4]>,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for Management {
    type StreamAggregatedResourcesStream = Answers<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Empty<Result<DeltaDiscoveryResponse, Status>>;

    /// Answers the first request for each type; those after it acknowledge.
    async fn stream_aggregated_resources(
        &self,
        requests: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        let resources = self.resources.clone();
        let answers = requests.into_inner().filter_map(move |request| match request {
            Ok(DiscoveryRequest { error_detail: Some(error), .. }) => Some(Err(Status::invalid_argument(error.message))),
            Ok(request) if request.version_info.is_empty() => Some(Ok(answer(&*resources, request.type_url))),
            Ok(_) => None,
            Err(status) => Some(Err(status)),
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn delta_aggregated_resources(
        &self,
        _: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("only the state of the world"))
    }
}

fn answer(resources: &[Any], type_url: String) -> DiscoveryResponse {
    let resources = resources.iter().filter(|resource| resource.type_url == type_url).cloned().collect();
    DiscoveryResponse { version_info: "1".to_owned(), nonce: "1".to_owned(), resources, type_url, ..Default::default() }
}

fn any<T: Name>(message: &T) -> Any {
    Any { type_url: format!("type.googleapis.com/{}", T::full_name()), value: message.encode_to_vec() }
}

/// From this same server.
fn here() -> ConfigSource {
    let specifier = ConfigSourceSpecifier::Ads(AggregatedConfigSource::default());
    ConfigSource { config_source_specifier: Some(specifier), ..Default::default() }
}

fn listener() -> Any {
    let rds = Rds { config_source: Some(here()), route_config_name: ROUTE.to_owned() };
    let manager = HttpConnectionManager { route_specifier: Some(RouteSpecifier::Rds(rds)), ..Default::default() };
    let api_listener = Some(ApiListener { api_listener: Some(any(&manager)) });
    any(&Listener { name: LISTENER.to_owned(), api_listener, ..Default::default() })
}

/// Everything goes to the one cluster, with the retries that Sinew's client has.
fn route() -> Any {
    let milliseconds = |count: i32| Some(Duration { seconds: (count / 1_000).into(), nanos: count % 1_000 * 1_000_000 });
    let retry = RetryPolicy {
        retry_on: "unavailable".to_owned(),
        num_retries: Some(UInt32Value { value: 2 }),
        retry_back_off: Some(RetryBackOff { base_interval: milliseconds(50), max_interval: milliseconds(1_000) }),
        ..Default::default()
    };
    let action = RouteAction {
        cluster_specifier: Some(ClusterSpecifier::Cluster(CLUSTER.to_owned())),
        retry_policy: Some(retry),
        ..Default::default()
    };
    let everything = RouteMatch { path_specifier: Some(PathSpecifier::Prefix("/".to_owned())), ..Default::default() };
    let route = Route { r#match: Some(everything), action: Some(Action::Route(action)), ..Default::default() };
    let domains = vec!["*".to_owned()];
    let host = VirtualHost { name: LISTENER.to_owned(), domains, routes: vec![route], ..Default::default() };
    any(&RouteConfiguration { name: ROUTE.to_owned(), virtual_hosts: vec![host], ..Default::default() })
}

fn cluster() -> Any {
    any(&Cluster {
        name: CLUSTER.to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
        eds_cluster_config: Some(EdsClusterConfig { eds_config: Some(here()), ..Default::default() }),
        ..Default::default()
    })
}

fn assignment(endpoints: &[SocketAddr]) -> Any {
    let locality = LocalityLbEndpoints { lb_endpoints: endpoints.iter().map(endpoint).collect(), ..Default::default() };
    any(&ClusterLoadAssignment { cluster_name: CLUSTER.to_owned(), endpoints: vec![locality], ..Default::default() })
}

fn endpoint(at: &SocketAddr) -> LbEndpoint {
    let socket = SocketAddress {
        address: at.ip().to_string(),
        port_specifier: Some(PortSpecifier::PortValue(at.port().into())),
        ..Default::default()
    };
    let address = Some(Address { address: Some(address::Address::SocketAddress(socket)) });
    LbEndpoint { host_identifier: Some(HostIdentifier::Endpoint(Endpoint { address, ..Default::default() })), ..Default::default() }
}
