//! What every contract promises: documentation, access, and keys for what changes something.

#![allow(clippy::expect_used)]

use prost_reflect::{DescriptorPool, MethodDescriptor, ReflectMessage};

/// Every rpc of the shop and of the mesh, with the pool that knows its options.
fn rpcs() -> Vec<(DescriptorPool, MethodDescriptor)> {
    let mut all = Vec::new();
    for encoded in [contracts::DESCRIPTORS, sinew_proto::DESCRIPTORS] {
        let pool = DescriptorPool::decode(encoded).expect("our own descriptors");
        let methods: Vec<_> = pool.services().flat_map(|s| s.methods().collect::<Vec<_>>()).collect();
        all.extend(methods.into_iter().map(|m| (pool.clone(), m)));
    }
    assert!(all.len() > 25, "only {} rpcs: is a set empty?", all.len());
    all
}

/// Changes nothing, or hands out what is forgotten again.
fn reads(method: &MethodDescriptor) -> bool {
    ["Get", "List", "Authenticate", "Subscribe", "Snapshot"].iter().any(|prefix| method.name().starts_with(prefix))
}

#[test]
fn every_rpc_is_documented() {
    for (_, method) in rpcs() {
        let file = method.parent_file().file_descriptor_proto().clone();
        let locations = file.source_code_info.expect("source info is included").location;
        let comment = locations.iter().find(|l| l.path == method.path()).and_then(|l| l.leading_comments.clone());
        assert!(comment.is_some_and(|c| c.trim().len() > 10), "{} has no comment", method.full_name());
    }
}

#[test]
fn every_rpc_says_who_may_call_it() {
    for (pool, method) in rpcs() {
        let access = pool.get_extension_by_name("sinew.auth.v1.access").expect("declared");
        assert!(method.options().has_extension(&access), "{} has no access", method.full_name());
    }
}

#[test]
fn what_changes_something_takes_a_key_and_may_be_repeated() {
    for (_, method) in rpcs().into_iter().filter(|(_, m)| m.parent_service().package_name().starts_with("shop.") && !reads(m)) {
        let name = method.full_name();
        assert!(method.input().get_field_by_name("idempotency_key").is_some(), "{name} takes no idempotency_key");
        let options = method.options();
        let level = options.descriptor().get_field_by_name("idempotency_level").expect("standard");
        // google.protobuf.MethodOptions.IdempotencyLevel.IDEMPOTENT.
        assert_eq!(options.get_field(&level).as_enum_number(), Some(2), "{name} is not IDEMPOTENT");
    }
}

#[test]
fn every_list_has_pages() {
    for (_, method) in
        rpcs().into_iter().filter(|(_, m)| m.parent_service().package_name().starts_with("shop.") && m.name().starts_with("List"))
    {
        let (asked, answered) = (method.input(), method.output());
        let pages = ["page_size", "page_token"].iter().all(|f| asked.get_field_by_name(f).is_some());
        assert!(pages && answered.get_field_by_name("next_page_token").is_some(), "{} has no pages", method.full_name());
    }
}

#[test]
fn the_policies_and_service_configs_can_be_honoured() {
    let policies = sinew_core::Policies::resolve(contracts::POLICIES).expect("honourable");
    assert_eq!(policies.destinations().count(), 5);
    assert!(policies.methods().any(|m| m.retry.is_some()));
}
