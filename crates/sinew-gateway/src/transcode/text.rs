//! Fields from text: what paths and queries hold.

use base64::{
    Engine,
    alphabet::{STANDARD, URL_SAFE},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, Value};

/// Proto's JSON takes base64 of either alphabet, padded or not.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);

/// Sets the field at the end of `path`. A repeated one is added to; another must not be set twice.
pub(super) fn set(message: &mut DynamicMessage, path: &[FieldDescriptor], text: &str) -> Result<(), String> {
    let Some((field, above)) = path.split_last() else { return Ok(()) };
    let mut holder = message;
    for step in above {
        holder = holder.get_field_mut(step).as_message_mut().ok_or_else(|| format!("{} is no message", step.name()))?;
    }
    if field.is_map() {
        return Err("a map cannot be written in a path or query".into());
    }
    let value = parse(&field.kind(), text)?;
    if field.is_list() {
        return holder.get_field_mut(field).as_list_mut().map(|list| list.push(value)).ok_or_else(|| "is no list".into());
    }
    if holder.has_field(field) {
        return Err("is given twice".into());
    }
    holder.try_set_field(field, value).map_err(|e| e.to_string())
}

fn parse(kind: &Kind, text: &str) -> Result<Value, String> {
    /// `FromStr` takes a leading `+`, JSON does not.
    fn number<T: std::str::FromStr>(text: &str, what: &str) -> Result<T, String> {
        text.parse().ok().filter(|_| !text.starts_with('+')).ok_or_else(|| format!("{} is no {what}", shown(text)))
    }
    Ok(match kind {
        Kind::String => Value::String(text.to_owned()),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(number(text, "32-bit whole number")?),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(number(text, "64-bit whole number")?),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(number(text, "32-bit whole number above or equal to 0")?),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(number(text, "64-bit whole number above or equal to 0")?),
        Kind::Float => Value::F32(number(text, "number")?),
        Kind::Double => Value::F64(number(text, "number")?),
        Kind::Bool => match text {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            _ => return Err(format!("{} is neither true nor false", shown(text))),
        },
        Kind::Enum(descriptor) => {
            let by_name = descriptor.get_value_by_name(text).map(|v| v.number());
            let number = by_name.or_else(|| text.parse().ok().filter(|n| descriptor.get_value(*n).is_some()));
            Value::EnumNumber(number.ok_or_else(|| format!("{} is no {}", shown(text), descriptor.name()))?)
        }
        Kind::Bytes => {
            let alphabet = if text.contains(['-', '_']) { &URL_SAFE } else { &STANDARD };
            let decoded = GeneralPurpose::new(alphabet, LENIENT).decode(text);
            Value::Bytes(decoded.map_err(|_| format!("{} is no base64", shown(text)))?.into())
        }
        // Timestamps, durations and their like are strings in JSON, and so they are here.
        Kind::Message(descriptor) if descriptor.package_name() == "google.protobuf" => {
            let message = DynamicMessage::deserialize(descriptor.clone(), serde_json::Value::String(text.to_owned()));
            Value::Message(message.map_err(|e| format!("{} is no {}: {e}", shown(text), descriptor.name()))?)
        }
        Kind::Message(_) => return Err("is a message: name a field of it, as in a.b".into()),
    })
}

/// Input, quoted and short enough to be shown.
fn shown(text: &str) -> String {
    const LONGEST: usize = 64;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{:?}…", text.get(..end).unwrap_or_default()),
        None => format!("{text:?}"),
    }
}
