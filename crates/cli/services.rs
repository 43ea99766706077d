//! `sinew services`: who is there, as the registry has it.

use crate::{exit::Exit, output::Format, registry};
use serde::Serialize;
use sinew_consul::{Instance, Service};
use sinew_core::Health;

/// Lists services and their instances, with what their checks say.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    registry: registry::Where,

    /// How to write it.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// One line.
#[derive(Debug, Serialize, PartialEq)]
struct Row {
    service: String,
    instance: String,
    address: String,
    health: &'static str,
    version: String,
    admin_port: Option<u16>,
    /// What failing checks say.
    trouble: Option<String>,
}

pub(crate) async fn run(args: Args) -> Result<(), Exit> {
    let services = args.registry.open()?.services().await?;
    let rows: Vec<Row> = services.iter().flat_map(|s| s.instances.iter().map(|i| row(s, i))).collect();
    let headings = ["service", "instance", "address", "health", "version", "trouble"];
    args.output.print(&rows, &headings, |rows| rows.iter().map(Row::cells).collect())
}

fn row(service: &Service, instance: &Instance) -> Row {
    let endpoint = &instance.endpoint;
    let failing = instance.checks.iter().filter(|c| c.status != "passing").map(|c| format!("{}: {}", c.id, c.output.trim()));
    let trouble = failing.collect::<Vec<_>>().join("; ");
    let host = if endpoint.host.contains(':') { format!("[{}]", endpoint.host) } else { endpoint.host.to_string() };
    Row {
        service: service.name.clone(),
        instance: endpoint.id.to_string(),
        address: format!("{host}:{}", endpoint.port),
        health: health(endpoint.health),
        version: endpoint.meta.get("version").cloned().unwrap_or_default(),
        admin_port: endpoint.meta.get("admin-port").and_then(|p| p.parse().ok()),
        trouble: (!trouble.is_empty()).then_some(trouble),
    }
}

fn health(health: Health) -> &'static str {
    match health {
        Health::Passing => "passing",
        Health::Warning => "warning",
        Health::Critical => "critical",
    }
}

impl Row {
    fn cells(&self) -> Vec<String> {
        let trouble = self.trouble.as_deref().unwrap_or_default().replace('\n', " ");
        let cells = [&self.service, &self.instance, &self.address, self.health, &self.version, trouble.as_str()];
        cells.map(str::to_owned).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sinew_consul::CheckResult;
    use sinew_core::Endpoint;

    #[test]
    fn a_failing_check_is_told_in_its_own_words() {
        let check =
            |id: &str, status: &str, output: &str| CheckResult { id: id.into(), status: status.into(), output: output.into() };
        let mut endpoint = Endpoint::new("order-0", "::1", 5);
        endpoint.health = Health::Critical;
        endpoint.meta = [("version".to_owned(), "1.2".to_owned()), ("admin-port".to_owned(), "9".to_owned())].into();
        let checks = vec![check("serf", "passing", "alive"), check("grpc", "critical", "no answer\n")];
        let instance = Instance { endpoint, checks };
        let row = row(&Service { name: "order".into(), instances: Vec::new() }, &instance);
        assert_eq!(row.trouble.as_deref(), Some("grpc: no answer"));
        assert_eq!((row.address.as_str(), row.version.as_str(), row.admin_port), ("[::1]:5", "1.2", Some(9)));
    }
}
