//! What a server writes about itself into the registry's Meta.

use std::collections::BTreeMap;

/// Consul's limit for one value, in bytes.
const VALUE: usize = 512;

/// Key of the list of gRPC services; continued under `…-2`, `…-3` where it is longer than one value may be.
pub(crate) const GRPC_SERVICES: &str = "grpc-services";

/// Spreads the names, joined by commas, over as many keys as they need; no name is split.
pub(crate) fn grpc_services(names: &[String]) -> BTreeMap<String, String> {
    let mut values: Vec<String> = Vec::new();
    for name in names {
        match values.last_mut().filter(|v| v.len() + 1 + name.len() <= VALUE) {
            Some(value) => {
                value.push(',');
                value.push_str(name);
            }
            None => values.push(name.clone()),
        }
    }
    let key = |i: usize| if i == 0 { GRPC_SERVICES.to_owned() } else { format!("{GRPC_SERVICES}-{}", i + 1) };
    values.into_iter().enumerate().map(|(i, value)| (key(i), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::{VALUE, grpc_services};

    #[test]
    fn no_value_is_too_long_and_no_name_is_lost() {
        let names: Vec<String> = (0..40).map(|i| format!("shop.service{i}.v1.SomeService")).collect();
        let meta = grpc_services(&names);
        assert!(meta.len() > 1 && meta.contains_key("grpc-services") && meta.contains_key("grpc-services-2"));
        assert!(meta.values().all(|v| v.len() <= VALUE));
        let mut back: Vec<_> = meta.values().flat_map(|v| v.split(',')).collect();
        let mut all: Vec<_> = names.iter().map(String::as_str).collect();
        back.sort_unstable();
        all.sort_unstable();
        assert_eq!(back, all);
    }
}
