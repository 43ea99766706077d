//! Reads `google.api.http` out of a method's options.

use crate::{catalogue::Method, error::BuildError};
use http::Method as Verb;
use prost_reflect::{DescriptorPool, DynamicMessage};

/// One `google.api.HttpRule`, flattened: additional bindings are rules of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) method: Verb,
    pub(super) path: String,
    pub(super) body: String,
    pub(super) response_body: String,
}

/// The rules of a method, the annotation's own first; none where it has no annotation.
pub(super) fn rules(pool: &DescriptorPool, method: &Method) -> Result<Vec<Rule>, BuildError> {
    let Some(extension) = pool.get_extension_by_name("google.api.http") else { return Ok(Vec::new()) };
    let options = method.descriptor.options();
    if !options.has_extension(&extension) {
        return Ok(Vec::new());
    }
    let refuse = |reason: &str| BuildError::Annotation { method: method.path.as_str().to_owned(), reason: reason.to_owned() };
    let annotation = options.get_extension(&extension);
    let annotation = annotation.as_message().ok_or_else(|| refuse("it is no HttpRule"))?;
    let mut rules = vec![rule(annotation).map_err(refuse)?];
    let more = annotation.get_field_by_name("additional_bindings");
    for binding in more.as_ref().and_then(|m| m.as_list()).unwrap_or_default() {
        let binding = binding.as_message().ok_or_else(|| refuse("an additional binding is no HttpRule"))?;
        if binding.has_field_by_name("additional_bindings") {
            return Err(refuse("additional bindings cannot have their own"));
        }
        rules.push(rule(binding).map_err(refuse)?);
    }
    Ok(rules)
}

fn rule(annotation: &DynamicMessage) -> Result<Rule, &'static str> {
    let text = |message: &DynamicMessage, name: &str| -> Option<String> {
        let value = message.get_field_by_name(name)?;
        value.as_str().filter(|s| !s.is_empty()).map(str::to_owned)
    };
    let standard = [("get", Verb::GET), ("put", Verb::PUT), ("post", Verb::POST), ("delete", Verb::DELETE), ("patch", Verb::PATCH)];
    let named = standard.into_iter().find_map(|(name, method)| Some((method, text(annotation, name)?)));
    let custom = || {
        let custom = annotation.get_field_by_name("custom").filter(|_| annotation.has_field_by_name("custom"))?;
        let custom = custom.as_message()?;
        Some((text(custom, "kind")?.parse().ok()?, text(custom, "path")?))
    };
    let (method, path) = named.or_else(custom).ok_or("it names no HTTP method and path")?;
    let body = text(annotation, "body").unwrap_or_default();
    Ok(Rule { method, path, body, response_body: text(annotation, "response_body").unwrap_or_default() })
}
