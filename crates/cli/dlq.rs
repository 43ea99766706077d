//! `sinew events dlq`: what a consumer could not read, to be looked at and handed over again once it can.

use crate::{
    exit::{Exit, chain},
    output::Format,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Serialize;
use sinew_rabbitmq::{Bus, BusError, DeadLetter, DeadLetters};
use std::collections::BTreeMap;

/// How many are looked through for one of them.
const ALL: usize = 100_000;

/// Looks at events that the broker put aside, and hands them to their consumer again.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// The oldest ones.
    List {
        #[command(flatten)]
        whose: Whose,

        /// At most so many.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
    },
    /// One with all that it says.
    Show {
        #[command(flatten)]
        whose: Whose,

        /// The event's id.
        id: String,
    },
    /// Hands them to the consumer again, all or one; one that it still cannot read comes back.
    Replay {
        #[command(flatten)]
        whose: Whose,

        /// The event's id; all when it is left out.
        id: Option<String>,
    },
}

#[derive(Debug, clap::Args)]
struct Whose {
    /// Who could not read them: order.
    consumer: String,

    /// Whose events they are: user.
    publisher: String,
}

/// A dead letter as it is shown.
#[derive(Debug, Serialize)]
struct Shown {
    id: String,
    kind: String,
    subject: String,
    version: Option<i64>,
    position: Option<i64>,
    reason: String,
    times: Option<i64>,
    since: String,
    headers: BTreeMap<String, String>,
    /// In base 64: it is what could not be read.
    payload: String,
}

pub(crate) async fn run(args: Args, output: Format) -> Result<(), Exit> {
    match args.command {
        Command::List { whose, limit } => {
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            let (letters, all) = whose.letters()?.list(limit).await.map_err(|e| failed(&e))?;
            if letters.len() < all {
                eprintln!("sinew: {} of {all}; see --limit", letters.len());
            }
            let shown: Vec<_> = letters.into_iter().map(Shown::new).collect();
            let headings = ["id", "kind", "position", "reason", "times", "since"];
            output.print(&shown, &headings, |shown| shown.iter().map(Shown::cells).collect())
        }
        Command::Show { whose, id } => {
            let (letters, _) = whose.letters()?.list(ALL).await.map_err(|e| failed(&e))?;
            let found = letters.into_iter().find(|letter| letter.id.as_deref() == Some(&*id)).map(Shown::new);
            let found = found.ok_or_else(|| whose.none(&id))?;
            output.print(&found, &["name", "value"], Shown::lines)
        }
        Command::Replay { whose, id } => {
            let replayed = whose.letters()?.replay(ALL, id.as_deref()).await.map_err(|e| failed(&e))?;
            match id {
                Some(id) if replayed == 0 => Err(whose.none(&id)),
                _ => {
                    output.print(&serde_json::json!({ "replayed": replayed }), &["replayed"], |_| vec![vec![replayed.to_string()]])
                }
            }
        }
    }
}

impl Whose {
    fn letters(&self) -> Result<DeadLetters, Exit> {
        let bus = Bus::from_env().map_err(|e| failed(&e))?;
        let bus = bus.ok_or_else(|| Exit::usage("set AMQP_URL to the broker: only a broker puts events aside"))?;
        Ok(bus.dead_letters(&self.consumer, &self.publisher))
    }

    fn none(&self, id: &str) -> Exit {
        Exit::no(format!("{} put no event {id} of {} aside", self.consumer, self.publisher))
    }
}

impl Shown {
    fn new(letter: DeadLetter) -> Self {
        Self {
            id: letter.id.unwrap_or_default(),
            kind: letter.kind.unwrap_or_default(),
            subject: letter.subject.unwrap_or_default(),
            version: letter.version,
            position: letter.position,
            reason: letter.reason.unwrap_or_default(),
            times: letter.times,
            since: letter.since.map(|at| at.to_rfc3339()).unwrap_or_default(),
            headers: letter.headers.into_iter().collect(),
            payload: STANDARD.encode(letter.payload),
        }
    }

    fn cells(&self) -> Vec<String> {
        let number = |n: Option<i64>| n.map(|n| n.to_string()).unwrap_or_default();
        let (position, times) = (number(self.position), number(self.times));
        vec![self.id.clone(), self.kind.clone(), position, self.reason.clone(), times, self.since.clone()]
    }

    fn lines(&self) -> Vec<Vec<String>> {
        let line = |name: &str, value: &str| vec![name.to_owned(), value.to_owned()];
        let mut lines = vec![line("reason", &self.reason), line("since", &self.since)];
        lines.extend(self.headers.iter().map(|(name, value)| line(name, value)));
        lines.push(line("payload", &self.payload));
        lines
    }
}

fn failed(error: &BusError) -> Exit {
    match error {
        BusError::Address { .. } => Exit::usage(chain(error)),
        BusError::NoQueue(_) => Exit::no(chain(error)),
        _ => Exit::unavailable(chain(error)),
    }
}
