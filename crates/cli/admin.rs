//! `sinew admin`: what no rpc does, done in the user service's own store.

use crate::{
    exit::{Exit, chain},
    output::Format,
    run,
};
use serde::Serialize;
use shop_user::{App, Caller, DisplayName, Email, Error, NewUser, Password, Role};
use std::path::{Path, PathBuf};

/// Makes administrators: no rpc does, so the first one comes from whoever holds the user service's database.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Create(Create),
}

/// Makes an administrator in the store that DATABASE_URL names, as the user service would find it. One that is there
/// already stays as it is, its password too.
#[derive(Debug, clap::Args)]
struct Create {
    /// With which the administrator logs in.
    #[arg(long)]
    email: String,

    /// File with the password; a line break at its end is not part of it. Never an argument: those are seen by every
    /// user of the machine.
    #[arg(long, value_name = "FILE")]
    password_file: PathBuf,

    /// As shown to others.
    #[arg(long, default_value = "Administrator")]
    name: String,

    /// How to write it.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

pub(crate) async fn run(args: Args) -> Result<(), Exit> {
    match args.command {
        Command::Create(args) => create(args).await,
    }
}

/// The administrator as told.
#[derive(Debug, Serialize)]
struct Row {
    user_id: String,
    email: String,
    /// Whether it was made just now.
    created: bool,
}

async fn create(args: Create) -> Result<(), Exit> {
    run::database_url()?;
    let administrator = Administrator {
        email: Email::new(&args.email).map_err(|e| Exit::usage(format!("--email: {e}")))?,
        name: DisplayName::new(&args.name).map_err(|e| Exit::usage(format!("--name: {e}")))?,
        password: password(&args.password_file)?,
    };
    let ensured = administrator.ensure(shop_user::Config::from_env(), "sinew admin create").await?;
    let row = Row { user_id: ensured.user_id, email: administrator.email.as_str().to_owned(), created: ensured.created };
    if !row.created {
        eprintln!("sinew: {} is an administrator already; nothing was changed, the password neither", row.email);
    }
    let cells = |row: &Row| vec![vec![row.user_id.clone(), row.email.clone(), row.created.to_string()]];
    args.output.print(&row, &["user", "email", "created"], cells)
}

fn password(file: &Path) -> Result<Password, Exit> {
    let refuse = |why: &dyn std::fmt::Display| Exit::usage(format!("--password-file {}: {why}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|e| refuse(&e))?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    Password::choose(line.strip_suffix('\r').unwrap_or(line).to_owned()).map_err(|e| refuse(&e))
}

/// Somebody who is to be an administrator.
#[derive(Debug)]
pub(crate) struct Administrator {
    pub(crate) email: Email,
    pub(crate) name: DisplayName,
    pub(crate) password: Password,
}

/// The administrator that there is now.
#[derive(Debug)]
pub(crate) struct Ensured {
    pub(crate) user_id: String,
    /// Whether it was made just now.
    pub(crate) created: bool,
}

impl Administrator {
    /// Makes it in this store, unless it is there.
    pub(crate) async fn ensure(&self, users: shop_user::Config, caller: &str) -> Result<Ensured, Exit> {
        let cannot = |e: &dyn std::error::Error| Exit::unavailable(format!("the administrator cannot be made: {}", chain(e)));
        let app = App::build(users).await.map_err(|e| cannot(&e))?;
        let ensured = self.ensure_in(&app, caller).await;
        app.db().close().await;
        ensured.map_err(|e| cannot(&e))?.ok_or_else(|| {
            Exit::no(format!("{} belongs to a user who is no administrator; take another address", self.email.as_str()))
        })
    }

    /// `None` where the address is somebody else's.
    async fn ensure_in(&self, app: &App, caller: &str) -> Result<Option<Ensured>, Error> {
        let user = NewUser {
            email: self.email.clone(),
            name: self.name.clone(),
            role: Role::Admin,
            password: self.password.clone(),
            // A key of its own each time: what must not be repeated is the address, and the store sees to that.
            key: uuid::Uuid::now_v7().to_string(),
            caller: Caller(caller.to_owned()),
        };
        match app.add_user(&user).await {
            Ok(user) => Ok(Some(Ensured { user_id: user.id.0.to_string(), created: true })),
            Err(Error::EmailTaken) => {
                let known = app.find_user(&self.email).await?;
                let known = known.filter(|user| user.role == Role::Admin);
                Ok(known.map(|user| Ensured { user_id: user.id.0.to_string(), created: false }))
            }
            Err(error) => Err(error),
        }
    }
}
