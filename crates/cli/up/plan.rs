//! What `up` runs: which services, in how many processes, with which settings.

use super::{Args, child::Slot, data::DataDir};
use crate::{exit::Exit, issuer::Issuer};
use std::{net::IpAddr, path::PathBuf};

/// The services, in the order in which they leave: who calls others goes first.
pub(crate) const TIERS: &[&[&str]] = &[&["order"], &["inventory", "payment"]];

/// Where each service's own database is named in a URL that all of them share.
const SERVICE: &str = "{service}";

/// Refuses one database for all.
pub(crate) fn check(database_url: Option<&str>) -> Result<(), Exit> {
    if database_url.is_none_or(|url| url.contains(SERVICE)) {
        return Ok(());
    }
    Err(Exit::usage(format!(
        "DATABASE_URL names one database, but every service owns its own: write {SERVICE} where its name belongs, \
         as in postgres://localhost/shop_{SERVICE}"
    )))
}

/// Every process to run.
pub(crate) fn slots(
    args: &Args,
    data: &DataDir,
    issuer: &Issuer,
    consul: &str,
    database_url: Option<&str>,
) -> Result<Vec<Vec<Slot>>, Exit> {
    let program = std::env::current_exe().map_err(|e| Exit::unavailable(format!("cannot find this program: {e}")))?;
    let slot = |service: &str, number: u16| -> Slot {
        let instance = format!("{service}-{number}");
        let mut env = vec![
            ("CONSUL_HTTP_ADDR".to_owned(), consul.to_owned()),
            ("SINEW_ADMIN".to_owned(), listen(args.bind)),
            ("SINEW_DATA_DIR".to_owned(), data.path().display().to_string()),
            ("SINEW_INSTANCE".to_owned(), instance.clone()),
            ("SINEW_JWKS".to_owned(), issuer.jwks().display().to_string()),
            ("SINEW_LISTEN".to_owned(), listen(args.bind)),
        ];
        env.extend(args.advertise.clone().map(|host| ("SINEW_ADVERTISE".to_owned(), host)));
        env.extend(database_url.map(|url| ("DATABASE_URL".to_owned(), url.replace(SERVICE, service))));
        let log: PathBuf = data.log(&instance);
        Slot { instance, program: program.clone(), args: vec!["run".to_owned(), service.to_owned()], env, log }
    };
    let replicas = |service: &&str| (0..args.replicas).map(|number| slot(service, number)).collect::<Vec<_>>();
    Ok(TIERS.iter().map(|tier| tier.iter().flat_map(replicas).collect()).collect())
}

/// Where the order service keeps its data, for the seed.
pub(crate) fn order_store(data: &DataDir, database_url: Option<&str>) -> shop_order::Config {
    match database_url {
        Some(url) => shop_order::Config::with_url(url.replace(SERVICE, "order")),
        None => shop_order::Config::in_folder(data.path()),
    }
}

/// Any free port: others find it through the registry.
fn listen(ip: IpAddr) -> String {
    std::net::SocketAddr::new(ip, 0).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    fn planned(database_url: Option<&str>) -> Result<Vec<Vec<Slot>>, Exit> {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::claim(folder.path()).unwrap();
        let issuer = Issuer::open(data.path()).unwrap();
        let Command { args } = Command::parse_from(["up", "--replicas", "2", "--bind", "::1"]);
        slots(&args, &data, &issuer, "127.0.0.1:8500", database_url)
    }

    #[test]
    fn every_slot_has_a_name_and_a_database_of_its_own() {
        let tiers = planned(Some("postgres://localhost/shop_{service}")).unwrap();
        let names: Vec<Vec<_>> = tiers.iter().map(|t| t.iter().map(|s| s.instance.as_str()).collect()).collect();
        assert_eq!(names, [vec!["order-0", "order-1"], vec!["inventory-0", "inventory-1", "payment-0", "payment-1"]]);
        let get = |slot: &Slot, name: &str| slot.env.iter().find(|(k, _)| k == name).map(|(_, v)| v.clone()).unwrap();
        assert_eq!(get(&tiers[1][0], "DATABASE_URL"), "postgres://localhost/shop_inventory");
        assert_eq!(get(&tiers[0][1], "SINEW_LISTEN"), "[::1]:0");
    }

    #[test]
    fn one_database_for_all_is_refused() {
        assert_eq!(check(Some("postgres://localhost/shop")).unwrap_err().code(), 64);
        assert!(check(None).is_ok());
    }
}
