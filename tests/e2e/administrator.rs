//! The command that makes the first administrator: once, whoever runs it how often, and never out of somebody else.

use crate::world::SOON;
use anyhow::{Context, ensure};
use shop_user::{App, Caller, Config, DisplayName, Email, NewUser, Password, Role};
use std::{fs, path::PathBuf};
use testkit::SinewProcess;

/// A data directory and files beside it.
struct Store {
    sinew: SinewProcess,
    files: tempfile::TempDir,
}

impl Store {
    fn new() -> anyhow::Result<Self> {
        let sinew = SinewProcess::new(env!("CARGO_BIN_EXE_sinew"))?;
        fs::create_dir_all(sinew.data())?;
        Ok(Self { sinew, files: tempfile::tempdir()? })
    }

    fn file(&self, name: &str, text: &str) -> anyhow::Result<String> {
        let path: PathBuf = self.files.path().join(name);
        fs::write(&path, text)?;
        Ok(path.display().to_string())
    }

    async fn app(&self) -> anyhow::Result<App> {
        Ok(App::build(Config::in_folder(&self.sinew.data())).await?)
    }

    /// The exit code and what was told on stderr.
    async fn refused(&self, email: &str, password_file: &str) -> anyhow::Result<(i32, String)> {
        let output = self.sinew.output(&["admin", "create", "--email", email, "--password-file", password_file]).await?;
        ensure!(output.stdout.is_empty(), "data though it failed: {}", String::from_utf8_lossy(&output.stdout));
        Ok((output.status.code().context("killed")?, String::from_utf8(output.stderr)?))
    }
}

#[tokio::test]
async fn an_administrator_is_made_once_and_keeps_the_first_password() -> anyhow::Result<()> {
    let store = Store::new()?;
    let (first, second) = (store.file("first", "a long password\n")?, store.file("second", "quite another one")?);
    let create =
        async |file: &str| store.sinew.json(&["admin", "create", "--email", "Root@Shop.example", "--password-file", file]).await;
    let made = create(&first).await?;
    ensure!(made["created"] == true && made["email"] == "root@shop.example", "{made}");
    let again = create(&second).await?;
    ensure!(again["created"] == false && again["user_id"] == made["user_id"], "{again} after {made}");

    let log_in = async |password: &str| {
        let request = contracts::user::v1::AuthenticateRequest { email: "root@shop.example".into(), password: password.into() };
        use contracts::user::v1::user_service_server::UserService;
        store.app().await?.api().authenticate(tonic::Request::new(request)).await.map_err(anyhow::Error::from)
    };
    let session = tokio::time::timeout(SOON, log_in("a long password")).await??.into_inner();
    ensure!(!session.access_token.is_empty(), "no token");
    ensure!(log_in("quite another one").await.is_err(), "the second password is good too");
    Ok(())
}

#[tokio::test]
async fn an_address_of_somebody_else_is_refused_and_he_stays_what_he_is() -> anyhow::Result<()> {
    let store = Store::new()?;
    let email = Email::new("ada@example.org")?;
    let app = store.app().await?;
    let ada = NewUser {
        email: email.clone(),
        name: DisplayName::new("Ada")?,
        role: Role::Customer,
        password: Password::choose("correct horse".into())?,
        key: "ada".into(),
        caller: Caller("test".into()),
    };
    app.add_user(&ada).await?;
    let (code, told) = store.refused("ada@example.org", &store.file("password", "a long password")?).await?;
    ensure!(code == 1 && told.contains("ada@example.org"), "{code}: {told}");
    ensure!(app.find_user(&email).await?.context("Ada")?.role == Role::Customer, "Ada was promoted");
    Ok(())
}

#[tokio::test]
async fn what_is_wrong_is_told_by_name_and_the_password_by_nobody() -> anyhow::Result<()> {
    let mut store = Store::new()?;
    let (good, short) = (store.file("good", "a long password")?, store.file("short", "hunter2\n")?);
    let nowhere = store.files.path().join("nowhere").display().to_string();
    for (email, file, names) in
        [("root", &good, "--email"), ("root@shop.example", &short, "--password-file"), ("root@shop.example", &nowhere, &nowhere)]
    {
        let (code, told) = store.refused(email, file).await?;
        ensure!(code == 64 && told.contains(names) && !told.contains("hunter2"), "{code}: {told}");
    }
    for (url, expected) in [("mysql://shop", 64), ("postgres://user:hunter2@127.0.0.1:1/user", 69)] {
        store.sinew = SinewProcess::new(env!("CARGO_BIN_EXE_sinew"))?.env("DATABASE_URL", url);
        let (code, told) = store.refused("root@shop.example", &good).await?;
        ensure!(code == expected && !told.contains("hunter2"), "{code}: {told}");
    }
    Ok(())
}
