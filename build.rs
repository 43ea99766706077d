//! Compiles `proto/`: the build script of `sinew-proto` and of `contracts`, through a symlink in each.
//!
//! protox takes the place of protoc, so nothing needs to be installed. The encoded descriptor set is kept byte for
//! byte: reflection and the gateway read our options from it, which prost's own types would drop.

use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor, ReflectMessage, ServiceDescriptor};
use std::{
    env,
    error::Error,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let manifest = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let proto = manifest.join("../../proto").canonicalize()?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    println!("cargo::rerun-if-changed={}", proto.display());
    println!("cargo::rerun-if-changed=build.rs");

    // sinew-proto holds everything that is not the shop's; contracts refers to it instead of compiling it again.
    let shop = env::var("CARGO_PKG_NAME")? == "contracts";
    let files = files(&proto)?;
    let ours: Vec<_> = files.iter().filter(|f| f.starts_with("shop") == shop).collect();

    let mut compiler = protox::Compiler::new([&proto])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(ours)?;
    let encoded = compiler.encode_file_descriptor_set();
    fs::write(out.join("descriptors.bin"), &encoded)?;

    let mut config = tonic_prost_build::configure().build_transport(false).include_file("generated.rs");
    if shop {
        config = config.extern_path(".sinew", "::sinew_proto").extern_path(".google.api", "::sinew_proto::google::api");
        fs::write(out.join("policies.rs"), policies(&encoded, &proto)?)?;
    }
    config.compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}

/// Every proto file, relative to `root`, in order of path.
fn files(root: &Path) -> Result<Vec<PathBuf>> {
    let (mut found, mut folders) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "proto") {
                found.push(path.strip_prefix(root)?.to_owned());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The `POLICIES` table: one entry a shop service, from its options and the service config beside it.
fn policies(encoded: &[u8], proto: &Path) -> Result<String> {
    let pool = DescriptorPool::decode(encoded)?;
    let mut packages: Vec<_> = pool.services().filter(|s| s.package_name().starts_with("shop.")).collect();
    packages.sort_by_key(|s| s.full_name().to_owned());

    let mut out = String::from(
        "/// What is known of every method of the shop before it is called.\npub const POLICIES: &[ServicePolicy] = &[\n",
    );
    for service in packages {
        // shop.order.v1 is served by "order".
        let name = service.package_name().split('.').nth(1).ok_or("a package without a service's name")?;
        let config = proto.join(format!("shop/{name}/v1/{name}_service_config.json"));
        let json = fs::read_to_string(&config).map_err(|e| format!("{}: {e}", config.display()))?;
        writeln!(out, "ServicePolicy {{ name: {name:?}, service_config: {json:?}, services: &[")?;
        writeln!(out, "GrpcService {{ name: {:?}, methods: &[", service.full_name())?;
        for method in service.methods() {
            writeln!(out, "{},", policy(&pool, &service, &method)?)?;
        }
        out.push_str("] }] },\n");
    }
    out.push_str("];\n");
    Ok(out)
}

fn policy(pool: &DescriptorPool, service: &ServiceDescriptor, method: &MethodDescriptor) -> Result<String> {
    let path = format!("/{}/{}", service.full_name(), method.name());
    let kind = match (method.is_client_streaming(), method.is_server_streaming()) {
        (false, false) => "Unary",
        (true, false) => "ClientStreaming",
        (false, true) => "ServerStreaming",
        (true, true) => "Bidirectional",
    };
    let options = method.options();
    let idempotency = match enum_name(&options, "idempotency_level").as_deref() {
        Some("NO_SIDE_EFFECTS") => "NoSideEffects",
        Some("IDEMPOTENT") => "Idempotent",
        _ => "Unknown",
    };
    let access = pool.get_extension_by_name("sinew.auth.v1.access").ok_or("sinew.auth.v1.access is not declared")?;
    let number = options.get_extension(&access).as_enum_number().unwrap_or_default();
    let access = match number {
        1 => "Public",
        2 => "User",
        3 => "Admin",
        4 => "Internal",
        _ => return Err(format!("{path} does not say who may call it: set (sinew.auth.v1.access)").into()),
    };
    Ok(format!(
        "Method {{ path: {path:?}, kind: MethodKind::{kind}, idempotency: Idempotency::{idempotency}, access: Access::{access} }}"
    ))
}

fn enum_name(message: &DynamicMessage, field: &str) -> Option<String> {
    let descriptor = message.descriptor().get_field_by_name(field)?;
    let number = message.get_field(&descriptor).as_enum_number()?;
    Some(descriptor.kind().as_enum()?.get_value(number)?.name().to_owned())
}
