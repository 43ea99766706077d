//! What the agent knows, and the index of every change. No I/O and no clock of its own: times come in.
//!
//! Each service has an index of its own, so that a blocked query wakes for its own service's changes only; a service
//! that nobody registers follows the last deregistration instead, as Consul's does.

use crate::definition::{Address, CheckDefinition, Kind, ServiceDefinition, Weights};
use std::{collections::BTreeMap, net::SocketAddr, time::Duration};
use tokio::time::Instant;

/// The check that maintenance mode is.
const MAINTENANCE: &str = "_service_maintenance:";
const MAINTENANCE_REASON: &str =
    "Maintenance mode is enabled for this service, but no reason was provided. This is a default message.";

/// Everything that the agent knows.
#[derive(Debug)]
pub(crate) struct State {
    pub node: Node,
    index: u64,
    /// The last deregistration.
    extinction: u64,
    /// The last change of the catalogue's list.
    catalogue: u64,
    services: BTreeMap<String, Service>,
}

/// The agent's one node.
#[derive(Debug)]
pub(crate) struct Node {
    pub id: String,
    pub name: String,
    pub datacenter: String,
    pub address: String,
    pub api: SocketAddr,
}

/// A registered service.
#[derive(Debug)]
pub(crate) struct Service {
    pub definition: ServiceDefinition,
    pub create_index: u64,
    pub modify_index: u64,
    /// The last change of it or of its checks.
    changed: u64,
    /// In order of id.
    pub checks: BTreeMap<String, Check>,
}

/// A check and its last result.
#[derive(Debug)]
pub(crate) struct Check {
    pub id: String,
    pub name: String,
    pub notes: String,
    pub status: Status,
    pub output: String,
    pub kind: Kind,
    /// The service's tags when the check was made.
    pub service_tags: Option<Vec<String>>,
    pub create_index: u64,
    pub modify_index: u64,
    forget_after: Option<Duration>,
    critical_since: Option<Instant>,
    /// When a TTL runs out.
    expires: Option<Instant>,
    definition: Option<CheckDefinition>,
}

/// What a check says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Status {
    Passing,
    Warning,
    Critical,
}

impl Status {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Passing => "passing",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "passing" => Some(Self::Passing),
            "warning" => Some(Self::Warning),
            "critical" => Some(Self::Critical),
            _ => None,
        }
    }
}

impl State {
    pub(crate) fn new(node: &str, datacenter: &str, api: SocketAddr) -> Self {
        let node = Node {
            // A node's id is made once and kept with its data; there is no data, so one is made of the name.
            id: format!(
                "00000000-0000-0000-0000-{:012x}",
                node.bytes().fold(7u64, |h, b| (h * 31 + u64::from(b)) & 0xffff_ffff_ffff)
            ),
            name: node.to_owned(),
            datacenter: datacenter.to_owned(),
            address: api.ip().to_string(),
            api,
        };
        // Consul's own node and service are its first entries.
        Self { node, index: 10, extinction: 10, catalogue: 10, services: BTreeMap::new() }
    }

    /// The newest index.
    pub(crate) fn index(&self) -> u64 {
        self.index
    }

    /// The index of the list of services.
    pub(crate) fn catalogue_index(&self) -> u64 {
        self.catalogue
    }

    /// The index of one service's instances and checks.
    pub(crate) fn service_index(&self, name: &str) -> u64 {
        self.named(name).map(|s| s.changed).max().unwrap_or(self.extinction)
    }

    pub(crate) fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.values()
    }

    pub(crate) fn service(&self, id: &str) -> Option<&Service> {
        self.services.get(id)
    }

    /// The instances of a service, in order of id.
    pub(crate) fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Service> {
        self.services.values().filter(move |s| s.definition.name == name)
    }

    fn next(&mut self) -> u64 {
        self.index += 1;
        self.index
    }

    /// Registers, or changes a registration. The same registration again changes nothing. Checks keep their results.
    pub(crate) fn register(&mut self, definition: ServiceDefinition, now: Instant) -> Result<(), String> {
        let mut checks = BTreeMap::new();
        for (i, check) in definition.all_checks().enumerate() {
            let made = self.check(&definition, check, i, now)?;
            checks.insert(made.id.clone(), made);
        }
        let id = definition.id.clone();
        if let Some(known) = self.services.get(&id) {
            let same_checks = checks.len() == known.checks.values().filter(|c| c.definition.is_some()).count()
                && checks.iter().all(|(id, c)| known.checks.get(id).is_some_and(|k| k.definition == c.definition));
            if known.definition == definition && same_checks {
                return Ok(());
            }
        }
        let index = self.next();
        let known = self.services.remove(&id);
        for check in checks.values_mut() {
            let before = known.as_ref().and_then(|k| k.checks.get(&check.id));
            check.create_index = before.map_or(index, |b| b.create_index);
            check.modify_index = index;
            if let Some(before) = before.filter(|b| b.definition == check.definition) {
                (check.status, check.critical_since, check.expires) = (before.status, before.critical_since, before.expires);
                check.output.clone_from(&before.output);
            }
        }
        let create_index = known.as_ref().map_or(index, |k| k.create_index);
        // Maintenance outlives a new registration.
        for (id, check) in known.into_iter().flat_map(|k| k.checks) {
            if check.kind == Kind::Maintenance {
                checks.insert(id, check);
            }
        }
        self.catalogue = index;
        self.services.insert(id, Service { definition, create_index, modify_index: index, changed: index, checks });
        Ok(())
    }

    fn check(&self, service: &ServiceDefinition, check: &CheckDefinition, i: usize, now: Instant) -> Result<Check, String> {
        let kind = check.kind()?;
        let status = match check.status.as_str() {
            "" => Status::Critical,
            text => Status::parse(text).ok_or_else(|| "Status for checks must 'passing', 'warning', 'critical'".to_owned())?,
        };
        let several = service.all_checks().count() > 1;
        let default_id = if several { format!("service:{}:{}", service.id, i + 1) } else { format!("service:{}", service.id) };
        Ok(Check {
            id: if check.check_id.is_empty() { default_id } else { check.check_id.clone() },
            name: if check.name.is_empty() { format!("Service '{}' check", service.name) } else { check.name.clone() },
            notes: check.notes.clone(),
            status,
            output: String::new(),
            expires: if let Kind::Ttl(ttl) = kind { now.checked_add(ttl) } else { None },
            kind,
            service_tags: service.tags.clone(),
            create_index: 0,
            modify_index: 0,
            forget_after: check.forget_after()?,
            critical_since: (status == Status::Critical).then_some(now),
            definition: Some(check.clone()),
        })
    }

    /// Forgets a service; unknown ones are no error.
    pub(crate) fn deregister(&mut self, id: &str) {
        if let Some(gone) = self.services.remove(id) {
            let index = self.next();
            self.extinction = index;
            self.catalogue = index;
            // Whoever watches the instances that remain must hear of it.
            for other in self.services.values_mut().filter(|s| s.definition.name == gone.definition.name) {
                other.changed = index;
            }
        }
    }

    /// Turns maintenance on (with its reason) or off; `false` for an unknown service.
    pub(crate) fn maintain(&mut self, id: &str, enable: bool, reason: &str) -> bool {
        let index = self.index + 1;
        let Some(service) = self.services.get_mut(id) else { return false };
        let check_id = format!("{MAINTENANCE}{id}");
        let changed = if enable {
            let known = service.checks.contains_key(&check_id);
            let service_tags = service.definition.tags.clone();
            service.checks.entry(check_id.clone()).or_insert_with(|| Check {
                id: check_id,
                name: "Service Maintenance Mode".into(),
                notes: if reason.is_empty() { MAINTENANCE_REASON.into() } else { reason.into() },
                status: Status::Critical,
                output: String::new(),
                kind: Kind::Maintenance,
                service_tags,
                create_index: index,
                modify_index: index,
                forget_after: None,
                critical_since: None,
                expires: None,
                definition: None,
            });
            !known
        } else {
            service.checks.remove(&check_id).is_some()
        };
        if changed {
            service.changed = index;
            self.index = index;
        }
        true
    }

    /// Takes a check's result in. Only a change of status wakes anybody: outputs are for people.
    pub(crate) fn update(&mut self, check_id: &str, status: Status, output: String, now: Instant) {
        let index = self.index + 1;
        for service in self.services.values_mut() {
            let Some(check) = service.checks.get_mut(check_id) else { continue };
            check.output = output;
            if let Kind::Ttl(ttl) = check.kind {
                check.expires = now.checked_add(ttl);
            }
            if check.status != status {
                check.status = status;
                check.modify_index = index;
                check.critical_since = (status == Status::Critical).then_some(now);
                service.changed = index;
                self.index = index;
            }
            return;
        }
    }

    /// Whether this is a check that waits to be told.
    pub(crate) fn has_ttl(&self, check_id: &str) -> bool {
        self.services.values().any(|s| s.checks.get(check_id).is_some_and(|c| matches!(c.kind, Kind::Ttl(_))))
    }

    /// Fails TTL checks that were not told in time; returns when the next one runs out.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<Instant> {
        let checks = self.services.values().flat_map(|s| s.checks.values());
        let over: Vec<_> = checks.filter(|c| c.expires.is_some_and(|e| e <= now)).map(|c| c.id.clone()).collect();
        for id in over {
            self.update(&id, Status::Critical, "TTL expired".into(), now);
            for service in self.services.values_mut() {
                if let Some(check) = service.checks.get_mut(&id) {
                    check.expires = None;
                }
            }
        }
        self.services.values().flat_map(|s| s.checks.values()).filter_map(|c| c.expires).min()
    }

    /// Forgets services that were critical for longer than their checks allow.
    pub(crate) fn reap(&mut self, now: Instant) -> Vec<String> {
        let over = |c: &Check| c.critical_since.zip(c.forget_after).is_some_and(|(since, after)| now >= since + after);
        let gone: Vec<_> = self.services.iter().filter(|(_, s)| s.checks.values().any(over)).map(|(id, _)| id.clone()).collect();
        for id in &gone {
            self.deregister(id);
        }
        gone
    }
}

impl Service {
    /// The worst of its checks.
    pub(crate) fn status(&self) -> Status {
        self.checks.values().map(|c| c.status).max().unwrap_or(Status::Passing)
    }

    pub(crate) fn in_maintenance(&self) -> bool {
        self.checks.values().any(|c| c.kind == Kind::Maintenance)
    }

    pub(crate) fn tags(&self) -> &[String] {
        self.definition.tags.as_deref().unwrap_or_default()
    }

    pub(crate) fn weights(&self) -> Weights {
        self.definition.weights.unwrap_or(Weights { passing: 1, warning: 1 })
    }

    /// As registered, and what Consul derives from an IP address.
    pub(crate) fn tagged_addresses(&self) -> BTreeMap<String, Address> {
        let mut all = self.definition.tagged_addresses.clone().unwrap_or_default();
        let own = Address { address: self.definition.address.clone(), port: self.definition.port };
        let family = match own.address.parse() {
            Ok(std::net::IpAddr::V4(_)) => "ipv4",
            Ok(std::net::IpAddr::V6(_)) => "ipv6",
            Err(_) => return all,
        };
        for scope in ["lan", "wan"] {
            all.entry(format!("{scope}_{family}")).or_insert_with(|| own.clone());
        }
        all
    }
}
