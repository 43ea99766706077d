//! Why a gateway cannot be built or run.

use crate::{RateError, TemplateError};

/// What is wrong with the contracts or the settings. Found when the gateway is built, never by a request.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The descriptor bytes are none.
    #[error("the contracts' descriptors cannot be read")]
    Descriptors(#[source] prost_reflect::DescriptorError),
    /// Policies name a service that the descriptors do not have.
    #[error("{0} has a policy but is in none of the descriptors")]
    NotDescribed(String),
    /// An annotation is not as `google/api/http.proto` has it.
    #[error("the HTTP annotation of {method}: {reason}")]
    Annotation {
        /// The method's path.
        method: String,
        /// What is wrong.
        reason: String,
    },
    /// An annotation's path is none.
    #[error("the HTTP annotation of {method}")]
    Template {
        /// The method's path.
        method: String,
        /// What is wrong.
        #[source]
        source: TemplateError,
    },
    /// Two methods claim the same requests.
    #[error("{first} and {second} both claim {claimed}")]
    Conflict {
        /// The method that came first.
        first: String,
        /// The method that came second.
        second: String,
        /// HTTP method and path template.
        claimed: String,
    },
    /// Methods need tokens, and nothing says how to verify one.
    #[error("{method} needs a token but there are no keys: set SINEW_JWKS, or serve GET {path} from a PUBLIC rpc", path = crate::JWKS_PATH)]
    NoKeys {
        /// One such method.
        method: String,
    },
    /// The store of rate limits cannot be used.
    #[error(transparent)]
    Rates(#[from] RateError),
    /// A header of clients must not be let through.
    #[error("the header {name} cannot be forwarded: {reason}")]
    Forward {
        /// Which.
        name: http::HeaderName,
        /// Why not.
        reason: &'static str,
    },
    /// Something needed was not given.
    #[error("the gateway's builder was given no {0}")]
    Missing(&'static str),
    /// Reflection refuses the descriptors.
    #[error("reflection cannot be served")]
    Reflection(#[source] tonic_reflection::server::Error),
}
