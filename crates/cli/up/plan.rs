//! What `up` runs: which services, in how many processes, with which settings.

use super::{Args, child::Slot, data::DataDir};
use crate::{exit::Exit, load};
use std::{net::IpAddr, path::PathBuf};

/// The services, in the order in which they leave: who calls others goes first.
pub(crate) const TIERS: &[&[&str]] = &[&[GATEWAY], &["order"], &["user", "product", "inventory", "payment"]];

/// The one service that has one process only: its port is fixed.
const GATEWAY: &str = "gateway";

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
pub(crate) fn slots(args: &Args, data: &DataDir, consul: &str, database_url: Option<&str>) -> Result<Vec<Vec<Slot>>, Exit> {
    let program = std::env::current_exe().map_err(|e| Exit::unavailable(format!("cannot find this program: {e}")))?;
    let load_key = load::key::open(data.path())?;
    let slot = |service: &str, number: u16| -> Slot {
        let instance = format!("{service}-{number}");
        let mut env = vec![
            ("CONSUL_HTTP_ADDR".to_owned(), consul.to_owned()),
            ("SINEW_ADMIN".to_owned(), listen(args.bind)),
            ("SINEW_DATA_DIR".to_owned(), data.path().display().to_string()),
            ("SINEW_INSTANCE".to_owned(), instance.clone()),
            ("SINEW_LISTEN".to_owned(), listen(args.bind)),
        ];
        env.extend(args.advertise.clone().map(|host| ("SINEW_ADVERTISE".to_owned(), host)));
        if service == GATEWAY {
            env.push(("SINEW_GATEWAY_LISTEN".to_owned(), args.gateway_addr.to_string()));
            env.push(("SINEW_RATE_LOAD_KEY".to_owned(), load_key.clone()));
            // For the services behind it; a gateway refuses it.
            env.push(("SINEW_ADAPTIVE_CONCURRENCY".to_owned(), String::new()));
        } else {
            env.extend(database_url.map(|url| ("DATABASE_URL".to_owned(), url.replace(SERVICE, service))));
        }
        let log: PathBuf = data.log(&instance);
        Slot { instance, program: program.clone(), args: vec!["run".to_owned(), service.to_owned()], env, log }
    };
    let replicas = |service: &&str| {
        let count = if *service == GATEWAY { 1 } else { args.replicas };
        (0..count).map(|number| slot(service, number)).collect::<Vec<_>>()
    };
    Ok(TIERS.iter().map(|tier| tier.iter().flat_map(replicas).collect()).collect())
}

/// Where the user service keeps its data, for the first administrator.
pub(crate) fn user_store(data: &DataDir, database_url: Option<&str>) -> shop_user::Config {
    match database_url {
        Some(url) => shop_user::Config { database_url: url.replace(SERVICE, "user") },
        None => shop_user::Config::in_folder(data.path()),
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
        let Command { args } = Command::parse_from(["up", "--replicas", "2", "--bind", "::1"]);
        slots(&args, &data, "127.0.0.1:8500", database_url)
    }

    #[test]
    fn every_slot_has_a_name_and_a_database_of_its_own() {
        let tiers = planned(Some("postgres://localhost/shop_{service}")).unwrap();
        let names: Vec<Vec<_>> = tiers.iter().map(|t| t.iter().map(|s| s.instance.as_str()).collect()).collect();
        let others = ["user", "product", "inventory", "payment"].iter().flat_map(|s| [format!("{s}-0"), format!("{s}-1")]);
        assert_eq!(names[..2], [vec!["gateway-0"], vec!["order-0", "order-1"]]);
        assert!(names[2].iter().map(|name| (*name).to_owned()).eq(others), "{names:?}");
        let get = |slot: &Slot, name: &str| slot.env.iter().find(|(k, _)| k == name).map(|(_, v)| v.clone()).unwrap();
        assert_eq!(get(&tiers[2][4], "DATABASE_URL"), "postgres://localhost/shop_inventory");
        assert_eq!(get(&tiers[1][1], "SINEW_LISTEN"), "[::1]:0");
        let adaptive = |slot: &Slot| slot.env.iter().find(|(k, _)| k == "SINEW_ADAPTIVE_CONCURRENCY").map(|(_, v)| v.clone());
        assert_eq!(
            (adaptive(&tiers[0][0]).as_deref(), adaptive(&tiers[1][0])),
            (Some(""), None),
            "what up was given is not the gateway's"
        );
    }

    #[test]
    fn one_database_for_all_is_refused() {
        assert_eq!(check(Some("postgres://localhost/shop")).unwrap_err().code(), 64);
        assert!(check(None).is_ok());
    }
}
