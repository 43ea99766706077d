//! The echo service behind the whole server stack of the mesh, and whatever a benchmark tells it to do instead of echoing.

use crate::{
    echo::{EchoClient, Message, NAME, POLICY, UNTHROTTLED, without_breakers},
    registry,
};
use http::Request;
use sinew_client::{Channel, Client, Config, Ports};
use sinew_core::{Policies, ServiceName};
use sinew_server::{AdaptiveConcurrency, Identity, Limits, Server};
use std::{
    convert::Infallible,
    fs::File,
    future::pending,
    io::Write,
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{net::TcpListener, sync::Semaphore, time::sleep};
use tonic::{
    Response, Status,
    body::Body,
    codegen::BoxFuture,
    server::{NamedService, UnaryService},
};
use tonic_prost::ProstCodec;
use tower_service::Service;

#[derive(Debug, Clone, clap::Args)]
pub(super) struct Options {
    #[arg(long)]
    pub(super) mesh: bool,
    /// Seconds after which a connection is told to go, give or take a tenth.
    #[arg(long, requires = "mesh")]
    age: Option<f64>,
    /// Calls let in at once; the server's default without it.
    #[arg(long, requires = "mesh")]
    calls: Option<usize>,
    /// And as many as latency allows.
    #[arg(long, requires = "mesh")]
    adaptive: bool,
    /// What a call takes, in milliseconds.
    #[arg(long, requires = "at_once")]
    work: Option<u64>,
    /// How many calls are worked on at once; others wait for their turn.
    #[arg(long, requires = "work")]
    at_once: Option<usize>,
    /// Answers UNAVAILABLE to everything.
    #[arg(long, requires = "mesh")]
    fail: bool,
    /// Asks the service at these addresses, through a Sinew client, and answers what that does.
    #[arg(long, requires = "mesh", value_delimiter = ',')]
    onward: Vec<SocketAddr>,
    /// The client that asks has no breakers to speak of.
    #[arg(long, requires = "mesh")]
    no_breakers: bool,
    /// It has no throttle of retries.
    #[arg(long, requires = "mesh")]
    no_throttle: bool,
    /// The id of each call that the handler was given is appended to this file, eight bytes each: what was written is still
    /// there when the process is killed.
    #[arg(long, requires = "mesh")]
    journal: Option<PathBuf>,
}

/// Serves until dropped; says so when it cannot.
pub(super) async fn serve(listener: TcpListener, options: Options) {
    if let Err(error) = run(listener, options).await {
        eprintln!("{error:#}");
    }
}

async fn run(listener: TcpListener, options: Options) -> anyhow::Result<()> {
    let identity = Identity {
        service: ServiceName::new(NAME)?,
        instance: format!("{NAME}-{}", listener.local_addr()?.port()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        advertise_host: None,
        advertise_port: None,
    };
    let mut config = sinew_server::Config::new(identity);
    let default = Limits::default();
    config.limits = Limits {
        connection_age: options.age.map(Duration::from_secs_f64),
        calls: options.calls.unwrap_or(default.calls),
        adaptive: options.adaptive.then(AdaptiveConcurrency::default),
        ..default
    };
    config.policies = Arc::new(Policies::resolve(&[POLICY])?);
    Server::new(config).add_service(Told::new(&options)?).run_on(listener, pending()).await?;
    Ok(())
}

/// The handler.
#[derive(Debug, Clone)]
struct Told {
    journal: Option<Arc<File>>,
    work: Option<(Duration, Arc<Semaphore>)>,
    fail: bool,
    onward: Option<EchoClient<Channel>>,
}

impl Told {
    fn new(options: &Options) -> anyhow::Result<Self> {
        let journal = options.journal.as_ref().map(|path| File::options().create(true).append(true).open(path)).transpose()?;
        let places = |work, count| (Duration::from_millis(work), Arc::new(Semaphore::new(count)));
        let onward = if options.onward.is_empty() {
            None
        } else {
            let discover = registry::discover(None, &options.onward)?;
            let config = if options.no_breakers { without_breakers(Config::default()) } else { Config::default() };
            let policy = if options.no_throttle { UNTHROTTLED } else { POLICY };
            let client = Client::new(Ports::real(discover), config, Arc::new(Policies::resolve(&[policy])?))?;
            Some(EchoClient::new(client.channel(&ServiceName::new(NAME)?)))
        };
        let work = options.work.zip(options.at_once).map(|(work, count)| places(work, count));
        Ok(Self { journal: journal.map(Arc::new), work, fail: options.fail, onward })
    }

    async fn answer(self, message: Message) -> Result<Response<Message>, Status> {
        if let (Some(journal), Some(id)) = (&self.journal, message.id()) {
            // One write of few bytes to a file opened for appending: whole or not at all.
            (&**journal).write_all(&id.to_le_bytes())?;
        }
        if let Some((time, places)) = &self.work {
            let _place = places.acquire().await.map_err(|error| Status::internal(error.to_string()))?;
            sleep(*time).await;
        }
        if self.fail {
            return Err(Status::unavailable("told to fail"));
        }
        match self.onward {
            Some(mut onward) => onward.say(message).await,
            None => Ok(Response::new(message)),
        }
    }
}

impl UnaryService<Message> for Told {
    type Response = Message;
    type Future = BoxFuture<Response<Message>, Status>;

    fn call(&mut self, request: tonic::Request<Message>) -> Self::Future {
        Box::pin(self.clone().answer(request.into_inner()))
    }
}

impl Service<Request<Body>> for Told {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let told = self.clone();
        Box::pin(async move {
            let codec = ProstCodec::<Message, Message>::default();
            Ok(tonic::server::Grpc::new(codec).unary(told, request).await)
        })
    }
}

impl NamedService for Told {
    const NAME: &'static str = "bench.Echo";
}
