//! The rule about containers and manifests: they set what the code reads, and look where it listens.

use super::{
    configuration::{PAGE, variables},
    tree::{Breach, SourceFile, Tree},
};

const IMAGE: &str = "deploy/Dockerfile";
const COMPOSE: &str = "deploy/compose.yaml";
const MANIFESTS: &str = "deploy/k8s/base/";

/// The code that knows which services there are, and what begins that list.
const RUN: &str = "crates/cli/run.rs";
const SERVICES: &str = "enum Service {";

pub(super) fn agrees(tree: &Tree) -> Vec<Breach> {
    let text = |path: &str| tree.get(path).map(|f| f.text.as_str()).unwrap_or_default();
    let known: Vec<_> = variables(text(PAGE)).collect();
    let mut breaches = Vec::new();
    for file in tree.files().iter().filter(|f| f.path.starts_with("deploy/")) {
        let unknown = variables(&file.text).filter(|name| !known.contains(name));
        breaches.extend(unknown.map(|name| file.breach(format!("sets {name}, which {PAGE} does not name"))));
    }
    for service in services(text(RUN)) {
        let manifest = format!("{MANIFESTS}{service}.yaml");
        match tree.get(&manifest) {
            None => breaches.push(Breach { at: manifest.clone(), what: format!("is missing: {service} is a service") }),
            Some(file) => breaches.extend(ports(file, &service, text(IMAGE))),
        }
        if !text(&format!("{MANIFESTS}kustomization.yaml")).contains(&format!("- {service}.yaml")) {
            breaches.push(Breach { at: format!("{MANIFESTS}kustomization.yaml"), what: format!("leaves {service}.yaml out") });
        }
        if !text(COMPOSE).contains(&format!("command: [\"run\", \"{service}\"]")) {
            breaches.push(Breach { at: COMPOSE.to_owned(), what: format!("does not run {service}") });
        }
    }
    breaches
}

/// The variants of the list of services, in small letters.
fn services(run: &str) -> Vec<String> {
    let list = run.split_once(SERVICES).and_then(|(_, rest)| rest.split_once('}')).map_or("", |(list, _)| list);
    list.split(',').map(|name| name.trim().to_lowercase()).filter(|name| !name.is_empty()).collect()
}

/// Every port that the manifest names is one that the image exposes, and the service is the one it is called after.
fn ports(file: &SourceFile, service: &str, image: &str) -> Vec<Breach> {
    let exposed: Vec<_> = image.lines().filter_map(|l| l.strip_prefix("EXPOSE ")).flat_map(str::split_whitespace).collect();
    let named = ["containerPort: ", "targetPort: ", "grpc: { port: ", ", port: "];
    let looked_at = file.text.lines().filter(|line| !line.contains("port: 80,")).flat_map(|line| {
        named
            .iter()
            .filter_map(move |key| line.split_once(key))
            .map(|(_, rest)| rest.split([' ', ',', '}']).next().unwrap_or_default())
    });
    let strange = looked_at.filter(|port| !exposed.contains(port));
    let mut breaches: Vec<_> =
        strange.map(|port| file.breach(format!("names port {port}, which the image does not expose"))).collect();
    for needed in [format!("args: [\"run\", \"{service}\"]"), "SINEW_ADVERTISE".into(), "CONSUL_HTTP_ADDR".into()] {
        if !file.text.contains(&needed) {
            breaches.push(file.breach(format!("lacks {needed}")));
        }
    }
    breaches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_together_is_seen() {
        let order = "args: [\"run\", \"order\"]\nSINEW_ADVERTISE CONSUL_HTTP_ADDR SINEW_NEW\ncontainerPort: 50052 }\n";
        let tree = Tree::planted([
            (PAGE, "`SINEW_ADVERTISE`"),
            (RUN, "enum Service {\n    Order,\n    User,\n}\n"),
            (IMAGE, "EXPOSE 50051\n"),
            (COMPOSE, "command: [\"run\", \"order\"]"),
            ("deploy/k8s/base/kustomization.yaml", "- order.yaml\n- user.yaml\n"),
            ("deploy/k8s/base/order.yaml", order),
        ]);
        let what: Vec<_> = agrees(&tree).into_iter().map(|b| b.what).collect();
        let expected = [
            "sets SINEW_NEW, which docs/configuration.md does not name",
            "names port 50052, which the image does not expose",
            "is missing: user is a service",
            "does not run user",
        ];
        assert_eq!(what, expected);
    }
}
