//! Why a mesh did not start, and with which exit code a program should say so.

use crate::SettingsError;

/// What keeps a mesh from starting, or ends it early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting that cannot be honoured.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A logging setting that cannot be honoured.
    #[error(transparent)]
    Logs(#[from] sinew_telemetry::LogError),
    /// Traces cannot be exported.
    #[error(transparent)]
    Traces(#[from] sinew_telemetry::ExportError),
    /// A registry setting that cannot be honoured.
    #[error(transparent)]
    Registry(#[from] sinew_consul::SettingsError),
    /// The registry's certificates cannot be used.
    #[error(transparent)]
    RegistryClient(#[from] sinew_consul::ConsulError),
    /// The registry refuses to be asked. One that does not answer is waited for.
    #[error("the registry at {address} refuses us; see CONSUL_HTTP_ADDR and CONSUL_HTTP_TOKEN")]
    RegistryUnusable {
        /// Its address.
        address: String,
        /// What went wrong.
        #[source]
        source: sinew_consul::ApiError,
    },
    /// A contract's policies or service config are malformed.
    #[error("the policies cannot be honoured")]
    Policies(#[from] sinew_core::policy::PolicyError),
    /// The service's own name is none.
    #[error(transparent)]
    Name(#[from] sinew_core::InvalidName),
    /// A client setting that cannot be honoured.
    #[error(transparent)]
    Client(#[from] sinew_client::ConfigError),
    /// The keys that verify tokens cannot be had.
    #[error("tokens cannot be verified")]
    Keys(#[from] sinew_server::KeyError),
    /// The server did not start.
    #[error(transparent)]
    Server(#[from] sinew_server::Error),
}

impl Error {
    /// sysexits(3): 64 when settings or usage are wrong, 69 when something needed is unavailable.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Settings(_)
            | Self::Logs(_)
            | Self::Traces(_)
            | Self::Registry(_)
            | Self::RegistryClient(_)
            | Self::Policies(_)
            | Self::Name(_)
            | Self::Client(_) => 64,
            Self::Keys(_) | Self::RegistryUnusable { .. } | Self::Server(_) => 69,
        }
    }
}
