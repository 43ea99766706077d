//! From HTTP requests to methods, by the contracts' `google.api.http` annotations. There is no other table of routes.

mod annotation;
mod location;
mod percent;
mod template;
mod trie;

pub(crate) use location::Location;
pub(crate) use percent::decode;
pub use template::TemplateError;
pub(crate) use trie::Found;

use crate::{
    catalogue::{Catalogue, Method},
    error::BuildError,
};
use annotation::Rule;
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use std::{ops::Range, sync::Arc};
use template::{Segment, Template};
use trie::Trie;

/// Every route.
pub(crate) type Routes = Trie<Arc<Binding>>;

/// One way to reach a method over HTTP.
#[derive(Debug)]
pub(crate) struct Binding {
    pub(crate) method: Arc<Method>,
    pub(crate) variables: Vec<Variable>,
    pub(crate) body: BodyRule,
    /// The response field that is the answer; the whole response otherwise.
    pub(crate) response_body: Option<FieldDescriptor>,
    /// Where what a POST created is found.
    pub(crate) location: Option<Location>,
}

/// A request field that the path binds.
#[derive(Debug)]
pub(crate) struct Variable {
    /// From the request down to the field.
    pub(crate) field: Vec<FieldDescriptor>,
    /// The segments it takes; `None` as end is the path's.
    pub(crate) start: usize,
    pub(crate) end: Option<usize>,
}

/// What the HTTP body is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BodyRule {
    /// There is none; the query holds what the path does not.
    None,
    /// All that the path does not bind.
    Whole,
    /// One field; the query holds the rest.
    Field(FieldDescriptor),
}

impl Variable {
    pub(crate) fn segments(&self, count: usize) -> Range<usize> {
        self.start..self.end.unwrap_or(count)
    }
}

/// Compiles every annotation of the catalogue.
pub(crate) fn compile(catalogue: &Catalogue) -> Result<Routes, BuildError> {
    let mut compiled = Vec::new();
    for method in catalogue.iter() {
        for rule in annotation::rules(&catalogue.pool, method)? {
            let template = Template::parse(&rule.path)
                .map_err(|source| BuildError::Template { method: method.path.as_str().to_owned(), source })?;
            compiled.push((method.clone(), rule, template));
        }
    }
    let mut trie = Trie::default();
    for (method, rule, template) in &compiled {
        let mut binding = bind(method, rule, template)?;
        let reads = compiled.iter().filter(|(_, r, _)| r.method == http::Method::GET).map(|(_, _, template)| template);
        binding.location = location::derive(rule, template, &method.descriptor.output(), reads);
        let claimed = format!("{} {}", rule.method, rule.path);
        if let Err(first) = trie.insert(rule.method.clone(), template, Arc::new(binding)) {
            let first = first.method.path.as_str().to_owned();
            return Err(BuildError::Conflict { first, second: method.path.as_str().to_owned(), claimed });
        }
    }
    Ok(trie)
}

fn bind(method: &Arc<Method>, rule: &Rule, template: &Template) -> Result<Binding, BuildError> {
    let refuse = |reason: String| BuildError::Annotation { method: method.path.as_str().to_owned(), reason };
    if !method.unary {
        return Err(refuse("only unary rpcs have a REST face".into()));
    }
    let input = method.descriptor.input();
    let mut variables = Vec::new();
    for variable in &template.variables {
        let field = resolve(&input, &variable.field).ok_or_else(|| refuse(format!("there is no field {}", variable.field)))?;
        if field.last().is_some_and(|f| f.is_list() || matches!(f.kind(), Kind::Message(_))) {
            return Err(refuse(format!("{} cannot be in a path: it is no single value", variable.field)));
        }
        let open = variable.segments.end == template.segments.len() && template.segments.last() == Some(&Segment::Rest);
        variables.push(Variable { field, start: variable.segments.start, end: (!open).then_some(variable.segments.end) });
    }
    let body = match rule.body.as_str() {
        "" => BodyRule::None,
        "*" => BodyRule::Whole,
        name => match input.get_field_by_name(name) {
            Some(field) if !field.is_list() && !field.is_map() && matches!(field.kind(), Kind::Message(_)) => {
                BodyRule::Field(field)
            }
            Some(_) => return Err(refuse(format!("the body must be '*' or a message, which {name} is not"))),
            None => return Err(refuse(format!("there is no field {name} to be the body"))),
        },
    };
    if body != BodyRule::None && matches!(rule.method, http::Method::GET | http::Method::DELETE) {
        return Err(refuse(format!("{} has no body", rule.method)));
    }
    let response_body = match rule.response_body.as_str() {
        "" => None,
        name => {
            let field = method.descriptor.output().get_field_by_name(name);
            Some(field.ok_or_else(|| refuse(format!("there is no field {name} in the response")))?)
        }
    };
    Ok(Binding { method: method.clone(), variables, body, response_body, location: None })
}

/// The fields along a dotted path, by their names in proto or in JSON; none through lists and maps.
pub(crate) fn resolve(message: &MessageDescriptor, path: &str) -> Option<Vec<FieldDescriptor>> {
    let mut fields: Vec<FieldDescriptor> = Vec::new();
    for name in path.split('.') {
        let message = match fields.last() {
            None => message.clone(),
            Some(field) if field.is_list() || field.is_map() => return None,
            Some(field) => field.kind().as_message()?.clone(),
        };
        fields.push(message.get_field_by_name(name).or_else(|| message.get_field_by_json_name(name))?);
    }
    Some(fields)
}
