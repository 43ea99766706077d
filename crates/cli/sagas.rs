//! `sinew sagas`: what the order service is in the middle of, asked on its admin ports.

use crate::{
    exit::{Exit, chain},
    output::Format,
    registry,
};
use serde::Serialize;
use sinew_proto::saga::v1::{GetSagaRequest, ListSagasRequest, Saga, SagaEntry, SagaState, saga_service_client::SagaServiceClient};
use tonic::{Code, Status};

/// Looks at sagas.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,

    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
struct Common {
    /// Whose sagas.
    #[arg(long, global = true, default_value = "order")]
    service: String,

    /// Consul's HTTP API: host:port or a URL.
    #[arg(long, global = true, env = "CONSUL_HTTP_ADDR", value_name = "ADDR", default_value = "127.0.0.1:8500")]
    consul: String,

    /// How to write it.
    #[arg(short, long, global = true, value_enum, default_value_t)]
    output: Format,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// The newest sagas.
    List {
        /// Only those in this state.
        #[arg(long, value_enum)]
        state: Option<State>,

        /// At most so many.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i32).range(1..=500))]
        limit: i32,
    },
    /// One saga with all that happened to it.
    Show {
        /// Its id: the order's.
        id: String,
    },
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum State {
    Started,
    Processing,
    Completed,
    Compensating,
    Failed,
    Parked,
}

/// A saga as it is shown.
#[derive(Debug, Serialize)]
struct Shown {
    id: String,
    definition: String,
    state: &'static str,
    step: String,
    attempts: i32,
    reason: String,
    owner: String,
    epoch: i64,
    created_at: String,
    updated_at: String,
}

/// Something that happened to it.
#[derive(Debug, Serialize)]
struct Happened {
    time: String,
    step: String,
    what: String,
    detail: String,
    owner: String,
}

#[derive(Debug, Serialize)]
struct Story {
    saga: Shown,
    history: Vec<Happened>,
}

pub(crate) async fn run(args: Args) -> Result<(), Exit> {
    let Common { service, consul, output } = args.common;
    let mut sagas = SagaServiceClient::new(registry::Registry::at(&consul)?.admin(&service).await?);
    match args.command {
        Command::List { state, limit } => {
            let state = state.map_or(SagaState::Unspecified, State::wire);
            let request = ListSagasRequest { state: state.into(), page_size: limit, page_token: String::new() };
            let listed = sagas.list_sagas(request).await.map_err(|e| refused(&service, &e))?.into_inner();
            let shown: Vec<_> = listed.sagas.into_iter().map(Shown::from).collect();
            let headings = ["id", "state", "step", "attempts", "updated", "reason"];
            output.print(&shown, &headings, |shown| shown.iter().map(Shown::cells).collect())
        }
        Command::Show { id } => {
            let found = sagas.get_saga(GetSagaRequest { saga_id: id.clone() }).await.map_err(|e| match e.code() {
                Code::NotFound => Exit::no(format!("{service} knows no saga {id}")),
                Code::InvalidArgument => Exit::usage(e.message()),
                _ => refused(&service, &e),
            })?;
            let found = found.into_inner();
            let saga = found.saga.ok_or_else(|| Exit::unavailable(format!("{service} answered without the saga")))?;
            let story = Story { saga: saga.into(), history: found.history.into_iter().map(Happened::from).collect() };
            if output == Format::Text {
                crate::output::write(&story.saga.paragraph())?;
            }
            let headings = ["time", "step", "what", "owner", "detail"];
            output.print(&story, &headings, |story| story.history.iter().map(Happened::cells).collect())
        }
    }
}

fn refused(service: &str, status: &Status) -> Exit {
    Exit::unavailable(format!("{service} cannot be asked for its sagas: {}", chain(status)))
}

impl State {
    fn wire(self) -> SagaState {
        match self {
            Self::Started => SagaState::Started,
            Self::Processing => SagaState::Processing,
            Self::Completed => SagaState::Completed,
            Self::Compensating => SagaState::Compensating,
            Self::Failed => SagaState::Failed,
            Self::Parked => SagaState::Parked,
        }
    }
}

fn state_name(state: SagaState) -> &'static str {
    match state {
        SagaState::Unspecified => "unknown",
        SagaState::Started => "started",
        SagaState::Processing => "processing",
        SagaState::Completed => "completed",
        SagaState::Compensating => "compensating",
        SagaState::Failed => "failed",
        SagaState::Parked => "parked",
    }
}

fn time(time: Option<prost_types::Timestamp>) -> String {
    time.map(|t| t.to_string()).unwrap_or_default()
}

impl From<Saga> for Shown {
    fn from(saga: Saga) -> Self {
        Self {
            state: state_name(saga.state()),
            id: saga.id,
            definition: saga.definition,
            step: saga.step,
            attempts: saga.attempts,
            reason: saga.reason,
            owner: saga.owner,
            epoch: saga.epoch,
            created_at: time(saga.created_at),
            updated_at: time(saga.updated_at),
        }
    }
}

impl Shown {
    fn cells(&self) -> Vec<String> {
        let attempts = self.attempts.to_string();
        [self.id.as_str(), self.state, &self.step, &attempts, &self.updated_at, &self.reason].map(str::to_owned).into()
    }

    fn paragraph(&self) -> String {
        let lines = [
            ("saga", &self.id),
            ("state", &self.state.to_owned()),
            ("step", &self.step),
            ("reason", &self.reason),
            ("owner", &self.owner),
            ("begun", &self.created_at),
        ];
        lines.iter().filter(|(_, v)| !v.is_empty()).map(|(k, v)| format!("{k:8}{v}\n")).collect::<String>() + "\n"
    }
}

impl From<SagaEntry> for Happened {
    fn from(entry: SagaEntry) -> Self {
        Self { time: time(entry.time), step: entry.step, what: entry.what, detail: entry.detail, owner: entry.owner }
    }
}

impl Happened {
    fn cells(&self) -> Vec<String> {
        [&self.time, &self.step, &self.what, &self.owner, &self.detail].map(String::clone).into()
    }
}
