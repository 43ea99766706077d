//! Transcoding by reflection, in proto's own JSON mapping: 64-bit numbers are strings, enums are names, zero values are
//! written. A message is decoded once and encoded once.

use super::{Answer, BadAnswer, BadInput, Input, Key, Transcode, depth, text};
use crate::routes::{Binding, BodyRule, decode, resolve};
use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use prost_reflect::{DynamicMessage, FieldDescriptor, MessageDescriptor, ReflectMessage, SerializeOptions, Value};

/// The reflective implementation.
#[derive(Debug)]
pub(crate) struct Json {
    /// How deep a body may nest.
    depth: usize,
}

/// Bytes of a response for which room is made at first; most fit.
const USUAL_ANSWER: usize = 512;

impl Json {
    pub(crate) fn new(depth: usize) -> Self {
        Self { depth }
    }

    fn body(&self, message: MessageDescriptor, body: &[u8], at: &str) -> Result<DynamicMessage, BadInput> {
        // No body at all is an empty message: `POST …:cancel` needs none.
        if body.is_empty() {
            return Ok(DynamicMessage::new(message));
        }
        if depth::exceeds(body, self.depth) {
            return Err(BadInput::whole(format!("the body nests deeper than {} levels", self.depth)));
        }
        let text = std::str::from_utf8(body)
            .map_err(|e| BadInput::whole(format!("the body is not UTF-8: see its byte {}", e.valid_up_to())))?;
        let mut json = serde_json::Deserializer::from_str(text);
        let mut track = serde_path_to_error::Track::new();
        let decoded = DynamicMessage::deserialize(message, serde_path_to_error::Deserializer::new(&mut json, &mut track));
        let message = decoded.map_err(|error| {
            let path = track.path().to_string();
            // A syntax error is the text's, not a field's.
            match error.classify() {
                serde_json::error::Category::Data if path != "." || !at.is_empty() => {
                    BadInput::field(join(at, &path), error.to_string())
                }
                serde_json::error::Category::Data => BadInput::whole(format!("the body: {error}")),
                _ => BadInput::whole(format!("the body is no JSON: {error}")),
            }
        })?;
        json.end().map_err(|error| BadInput::whole(format!("the body is no JSON: {error}")))?;
        Ok(message)
    }
}

impl Transcode for Json {
    fn request(&self, binding: &Binding, input: &Input<'_>) -> Result<Bytes, BadInput> {
        let descriptor = binding.method.descriptor.input();
        let mut message = match &binding.body {
            BodyRule::Whole => self.body(descriptor, input.body, "")?,
            BodyRule::None => DynamicMessage::new(descriptor),
            BodyRule::Field(field) => {
                let mut message = DynamicMessage::new(descriptor);
                if let Some(inner) = field.kind().as_message() {
                    let inner = self.body(inner.clone(), input.body, field.json_name())?;
                    message.set_field(field, Value::Message(inner));
                }
                message
            }
        };
        if binding.body == BodyRule::Whole {
            if !input.query.is_empty() {
                return Err(BadInput::whole("this call takes no query: the body holds all its fields"));
            }
        } else {
            query(&mut message, binding, input.query)?;
        }
        path(&mut message, binding, input.segments)?;
        if let Some(field) = &binding.method.key {
            key(&mut message, field, input.key)?;
        }
        Ok(frame(&message))
    }

    fn response(&self, binding: &Binding, message: Bytes) -> Result<Answer, BadAnswer> {
        let output = binding.method.descriptor.output();
        let name = output.full_name().to_owned();
        let message = DynamicMessage::decode(output, message).map_err(|source| BadAnswer::Decode { message: name, source })?;
        let options = SerializeOptions::new().skip_default_fields(false);
        let mut json = serde_json::Serializer::new(Vec::with_capacity(USUAL_ANSWER));
        message.serialize_with_options(&mut json, &options)?;
        let mut json = json.into_inner();
        if let Some(field) = &binding.response_body {
            let whole: serde_json::Value = serde_json::from_slice(&json)?;
            json = serde_json::to_vec(whole.get(field.json_name()).unwrap_or(&serde_json::Value::Null))?;
        }
        Ok(Answer { json, created: binding.location.as_ref().and_then(|l| l.id(&message)) })
    }
}

fn path(message: &mut DynamicMessage, binding: &Binding, segments: &[&str]) -> Result<(), BadInput> {
    for variable in &binding.variables {
        let value = segments.get(variable.segments(segments.len())).unwrap_or_default().join("/");
        let name = json_path(&variable.field);
        // Into a message of its own first: what the body says of the field must be the same.
        let mut alone = DynamicMessage::new(message.descriptor());
        text::set(&mut alone, &variable.field, &value).map_err(|why| BadInput::field(&name, why))?;
        if let (Some(from_body), Some(from_path)) = (get(message, &variable.field), get(&alone, &variable.field))
            && from_body != from_path
        {
            return Err(BadInput::field(name, "differs from the path"));
        }
        if get(message, &variable.field).is_none() {
            text::set(message, &variable.field, &value).map_err(|why| BadInput::field(name, why))?;
        }
    }
    Ok(())
}

fn query(message: &mut DynamicMessage, binding: &Binding, query: &str) -> Result<(), BadInput> {
    for pair in query.split('&').filter(|p| !p.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let part = |part| decode(part, true).map_err(|why| BadInput::whole(format!("the query: {why}")));
        let (name, value) = (part(name)?, part(value)?);
        let field = resolve(&message.descriptor(), &name).ok_or_else(|| BadInput::field(&*name, "there is no such field"))?;
        let bound = binding.variables.iter().any(|v| v.field == field);
        let in_body = matches!(&binding.body, BodyRule::Field(body) if field.first() == Some(body));
        if bound || in_body {
            return Err(BadInput::field(&*name, "belongs in the path or body, not in the query"));
        }
        text::set(message, &field, &value).map_err(|why| BadInput::field(&*name, why))?;
    }
    Ok(())
}

fn key(message: &mut DynamicMessage, field: &FieldDescriptor, key: Key<'_>) -> Result<(), BadInput> {
    let there = message.get_field(field).as_str().filter(|k| !k.is_empty()).map(str::to_owned);
    let key = match (key, there) {
        (Key::Minted(_), Some(_)) => return Ok(()),
        (Key::Sent(sent), Some(there)) if sent != there => {
            return Err(BadInput::field(field.json_name(), "differs from the header Idempotency-Key"));
        }
        (Key::Sent(key) | Key::Minted(key), _) => key,
    };
    message.set_field(field, Value::String(key.to_owned()));
    Ok(())
}

/// The field's value where it is set.
fn get(message: &DynamicMessage, path: &[FieldDescriptor]) -> Option<Value> {
    let (first, below) = path.split_first()?;
    if !message.has_field(first) {
        return None;
    }
    let value = message.get_field(first);
    if below.is_empty() { Some(value.into_owned()) } else { get(value.as_message()?, below) }
}

/// One gRPC frame, uncompressed.
fn frame(message: &DynamicMessage) -> Bytes {
    let length = message.encoded_len();
    let mut out = BytesMut::with_capacity(5 + length);
    out.put_u8(0);
    // Bodies and paths are bounded far below 4 GiB.
    out.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    message.encode_raw(&mut out);
    out.freeze()
}

fn json_path(path: &[FieldDescriptor]) -> String {
    path.iter().map(|f| f.json_name().to_owned()).collect::<Vec<_>>().join(".")
}

fn join(at: &str, path: &str) -> String {
    match (at, path) {
        ("", path) => path.to_owned(),
        (at, ".") => at.to_owned(),
        (at, path) => format!("{at}.{path}"),
    }
}
