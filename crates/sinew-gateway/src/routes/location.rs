//! Which answers are 201 Created, and what their `Location` says.
//!
//! There is no annotation for it, so the shape decides: a POST on a collection (`/api/v1/orders`) whose members can be
//! read (`GET /api/v1/orders/{order_id}`) creates one, if its response holds that `order_id`, at its top or one message
//! below.

use super::{
    annotation::Rule,
    template::{Segment, Template},
};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor};

/// Where in the response the id of what was created is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Location {
    field: Vec<FieldDescriptor>,
}

impl Location {
    /// The id, if it can stand in a path as it is.
    pub(crate) fn id(&self, response: &DynamicMessage) -> Option<String> {
        let (last, above) = self.field.split_last()?;
        let plain =
            |id: &str| !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~'));
        let id = |message: &DynamicMessage| message.get_field(last).as_str().filter(|id| plain(id)).map(str::to_owned);
        match above.first() {
            None => id(response),
            Some(field) => id(response.get_field(field).as_message()?),
        }
    }
}

pub(super) fn derive<'a>(
    rule: &Rule,
    template: &Template,
    output: &MessageDescriptor,
    mut reads: impl Iterator<Item = &'a Template>,
) -> Option<Location> {
    if rule.method != http::Method::POST || template.verb.is_some() || !rule.response_body.is_empty() {
        return None;
    }
    let collection = &template.segments;
    if !matches!(collection.last(), Some(Segment::Literal(_))) {
        return None;
    }
    let id = reads.find_map(|read| {
        let (last, above) = read.segments.split_last()?;
        let member = read.verb.is_none() && *last == Segment::One && above == collection.as_slice();
        let variable = read.variables.iter().find(|v| v.segments == (above.len()..above.len() + 1))?;
        member.then(|| variable.field.clone())
    })?;
    let text = |message: &MessageDescriptor| message.get_field_by_name(&id).filter(|f| f.kind() == Kind::String && !f.is_list());
    if let Some(field) = text(output) {
        return Some(Location { field: vec![field] });
    }
    let singles = output.fields().filter(|f| !f.is_list() && !f.is_map());
    let below = singles.filter_map(|f| Some(vec![f.clone(), text(f.kind().as_message()?)?]));
    below.into_iter().next().map(|field| Location { field })
}
