//! YAML, edited with its comments and order kept where the editor can, rewritten where it cannot.

use std::str::FromStr as _;

use serde_json::{Map, Value};
use yaml_edit::{Document, Mapping, Sequence, YamlValue};

use super::super::merge::ListEdit;

pub(super) fn parse(text: &str) -> Result<Value, String> {
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(Value::Null);
    }
    serde_saphyr::from_str(text).map_err(|error| error.to_string())
}

pub(super) fn print(value: &Value) -> String {
    serde_saphyr::to_string(value).expect("what JSON says, YAML says")
}

/// `None`: it cannot be done.
pub(super) fn edit(text: &str, from: &Value, to: &Value) -> Option<String> {
    let (from, to) = (from.as_object()?, to.as_object()?);
    let document = Document::from_str(text).ok()?;
    edit_mapping(&document.as_mapping()?, from, to)?;
    Some(document.to_string())
}

fn edit_mapping(mapping: &Mapping, from: &Map<String, Value>, to: &Map<String, Value>) -> Option<()> {
    for key in from.keys().filter(|key| !to.contains_key(*key)) {
        mapping.remove(key.as_str())?;
    }
    for (key, to) in to {
        let name = key.as_str();
        match (from.get(key), to) {
            (Some(from), to) if from == to => {}
            // `{}` is on one line, and so would be what comes into it.
            (Some(Value::Object(from)), Value::Object(_)) if from.is_empty() => {
                mapping.remove(name)?;
                mapping.set(name, &input(to)?);
            }
            (Some(Value::Object(from)), Value::Object(to)) => edit_mapping(&mapping.get_mapping(name)?, from, to)?,
            (Some(Value::Array(from)), Value::Array(to)) => edit_sequence(&mapping.get_sequence(name)?, from, to)?,
            (_, to) => mapping.set(name, &input(to)?),
        }
    }
    Some(())
}

fn edit_sequence(sequence: &Sequence, from: &[Value], to: &[Value]) -> Option<()> {
    match ListEdit::between(from, to) {
        ListEdit::Prepend(count) => {
            for (index, item) in to[..count].iter().enumerate() {
                sequence.insert(index, &input(item)?);
            }
        }
        ListEdit::Remove(places) => {
            for place in places {
                sequence.remove(place)?;
            }
        }
        ListEdit::Replace => return None,
    }
    Some(())
}

fn input(value: &Value) -> Option<YamlValue> {
    Some(match value {
        Value::Bool(value) => YamlValue::from(*value),
        Value::Number(value) => YamlValue::from(value.as_i64()?),
        Value::String(value) => YamlValue::from(value.as_str()),
        Value::Array(items) => YamlValue::Sequence(items.iter().map(input).collect::<Option<_>>()?),
        Value::Object(map) => {
            let pairs = map.iter().map(|(key, value)| Some((key.clone(), input(value)?)));
            YamlValue::Mapping(pairs.collect::<Option<_>>()?)
        }
        Value::Null => return None,
    })
}
