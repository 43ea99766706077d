//! `sinew sagas`: what the order service is in the middle of, asked on its admin ports, and parked ones got going again.

use crate::{
    exit::{Exit, chain},
    output::Format,
    registry,
};
use serde::Serialize;
use sinew_proto::saga::v1::{
    GetSagaRequest, ListSagasRequest, ResumeSagaRequest, Saga, SagaEntry, SagaState, SkipStepRequest, StepOutput,
    saga_service_client::SagaServiceClient,
};
use tonic::{Code, Status};

/// Looks at sagas, and gets parked ones going.
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

        /// Its way so far as a Mermaid flowchart instead.
        #[arg(long)]
        graph: bool,
    },
    /// Has a parked saga try its failing step again.
    Resume {
        /// Its id.
        id: String,

        /// Why; kept in the saga's history with your name.
        #[arg(long)]
        note: String,
    },
    /// Declares a parked saga's failing step done by hand, and has it go on.
    Skip {
        /// Its id.
        id: String,

        /// The step, as `show` names it.
        step: String,

        /// What was done instead; kept in the saga's history with your name.
        #[arg(long)]
        note: String,
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
    outputs: Vec<Output>,
}

/// What a step answered.
#[derive(Debug, Serialize)]
struct Output {
    step: String,
    answer: serde_json::Value,
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
        Command::Show { id, graph } => {
            let found = sagas.get_saga(GetSagaRequest { saga_id: id.clone() }).await.map_err(|e| of_one(&service, &id, &e))?;
            let found = found.into_inner();
            let saga = found.saga.ok_or_else(|| Exit::unavailable(format!("{service} answered without the saga")))?;
            let story = Story { saga: saga.into(), history: found.history.into_iter().map(Happened::from).collect() };
            if graph {
                return crate::output::write(&story.graph());
            }
            if output == Format::Text {
                crate::output::write(&story.saga.paragraph())?;
            }
            let headings = ["time", "step", "what", "owner", "detail"];
            output.print(&story, &headings, |story| story.history.iter().map(Happened::cells).collect())
        }
        Command::Resume { id, note } => {
            let request = ResumeSagaRequest { saga_id: id.clone(), note: signed(&note)? };
            let resumed = sagas.resume_saga(request).await.map_err(|e| of_one(&service, &id, &e))?;
            changed(output, &service, resumed.into_inner().saga)
        }
        Command::Skip { id, step, note } => {
            let request = SkipStepRequest { saga_id: id.clone(), step, note: signed(&note)? };
            let skipped = sagas.skip_step(request).await.map_err(|e| of_one(&service, &id, &e))?;
            changed(output, &service, skipped.into_inner().saga)
        }
    }
}

/// A note with the name of whoever is at the keyboard.
fn signed(note: &str) -> Result<String, Exit> {
    if note.trim().is_empty() {
        return Err(Exit::usage("--note: say why; whoever reads the saga's history will ask"));
    }
    let user =
        ["SUDO_USER", "USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok().filter(|user| !user.is_empty()));
    Ok(format!("{}: {note}", user.as_deref().unwrap_or("somebody")))
}

/// Shows a saga as it is after a change.
fn changed(output: Format, service: &str, saga: Option<Saga>) -> Result<(), Exit> {
    let saga = Shown::from(saga.ok_or_else(|| Exit::unavailable(format!("{service} answered without the saga")))?);
    let headings = ["id", "state", "step", "attempts", "updated", "reason"];
    output.print(&saga, &headings, |saga| vec![saga.cells()])
}

/// Why one saga could not be shown or changed.
fn of_one(service: &str, id: &str, status: &Status) -> Exit {
    match status.code() {
        Code::NotFound => Exit::no(format!("{service} knows no saga {id}")),
        Code::FailedPrecondition => Exit::no(status.message()),
        Code::InvalidArgument => Exit::usage(status.message()),
        _ => refused(service, status),
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
            outputs: saga.outputs.into_iter().map(Output::from).collect(),
        }
    }
}

impl From<StepOutput> for Output {
    fn from(output: StepOutput) -> Self {
        let answer = serde_json::from_str(&output.json).unwrap_or(serde_json::Value::String(output.json));
        Self { step: output.step, answer }
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
        let mut text: String = lines.iter().filter(|(_, v)| !v.is_empty()).map(|(k, v)| format!("{k:8}{v}\n")).collect();
        for Output { step, answer } in &self.outputs {
            text.push_str(&format!("{:8}{step} {answer}\n", "answer"));
        }
        text + "\n"
    }
}

impl From<SagaEntry> for Happened {
    fn from(entry: SagaEntry) -> Self {
        Self { time: time(entry.time), step: entry.step, what: entry.what, detail: entry.detail, owner: entry.owner }
    }
}

impl Story {
    /// What happened, in its order, as a Mermaid flowchart.
    fn graph(&self) -> String {
        let mut text = "flowchart LR\n".to_owned();
        for (n, happened) in self.history.iter().enumerate() {
            // Quotes end a label.
            let label = format!("{} {}", happened.step, happened.what).trim().replace('"', "'");
            let arrow = if n == 0 { String::new() } else { format!("n{} --> ", n - 1) };
            text.push_str(&format!("  {arrow}n{n}[\"{label}\"]\n"));
        }
        let end = if self.saga.state == "parked" { format!("parked at {}", self.saga.step) } else { self.saga.state.to_owned() };
        let from = self.history.len().checked_sub(1).map(|last| format!("n{last} --> ")).unwrap_or_default();
        text.push_str(&format!("  {from}state([\"{end}\"])\n"));
        text
    }
}

impl Happened {
    fn cells(&self) -> Vec<String> {
        [&self.time, &self.step, &self.what, &self.owner, &self.detail].map(String::clone).into()
    }
}
