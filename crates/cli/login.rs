//! `sinew login`: a bearer token from the gateway.

use crate::{
    demo::{self, Admin},
    exit::Exit,
    http::Http,
    output,
};
use std::{path::PathBuf, time::Duration};

/// Checking a password is slow on purpose.
const PATIENCE: Duration = Duration::from_secs(10);

/// Logs in at the gateway and writes the bearer token to stdout. Without --email, as the administrator that `sinew up` made.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The gateway.
    #[arg(long, default_value = "http://127.0.0.1:8080", value_name = "URL")]
    gateway: String,

    /// Who logs in; the password is in SINEW_PASSWORD.
    #[arg(long)]
    email: Option<String>,

    /// Where `sinew up` keeps its data.
    #[arg(long, env = "SINEW_DATA_DIR", default_value = crate::DEFAULT_DATA_DIR)]
    data_dir: PathBuf,
}

pub(crate) async fn run(args: Args) -> Result<(), Exit> {
    let gateway = Http::new(&args.gateway, PATIENCE)?;
    let (email, password) = match args.email {
        // Never an argument: those are seen by every user of the machine.
        Some(email) => {
            let password = std::env::var("SINEW_PASSWORD").map_err(|_| Exit::usage("SINEW_PASSWORD must hold the password"))?;
            (email, password)
        }
        None => {
            let nobody =
                || Exit::usage(format!("no `sinew up` has run in {}: give --data-dir, or --email", args.data_dir.display()));
            let Admin { email, password } = Admin::open(&args.data_dir)?.ok_or_else(nobody)?;
            (email, password)
        }
    };
    let token = demo::log_in(&gateway, &email, &password).await?;
    output::write(&format!("{token}\n"))
}
