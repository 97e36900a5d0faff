//! JSON, edited with its layout kept.

use jsonc_parser::ParseOptions;
use jsonc_parser::cst::{CstArray, CstInputValue, CstObject, CstRootNode};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::super::merge::ListEdit;

/// The value of a text that is not blank. A key that is there twice is refused: one of the two
/// would be lost.
pub(super) fn parse(text: &str) -> Result<Value, String> {
    if text.starts_with('\u{feff}') {
        return Err("it begins with a byte order mark: take it off".to_owned());
    }
    serde_json::from_str::<Strict>(text).map(|strict| strict.0).map_err(|error| {
        let line = text.lines().nth(error.line().saturating_sub(1)).unwrap_or_default();
        let rest = line.get(error.column().saturating_sub(1)..).unwrap_or_default();
        match rest.starts_with(['/', '#']) {
            true => format!("{error}: JSON has no comments, and dockerd does not read it with them either"),
            false => error.to_string(),
        }
    })
}

/// A value of which no table has a key twice.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Strict, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Strict)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Strict(item)) = access.next_element()? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some((key, Strict(value))) = access.next_entry::<String, Strict>()? {
            if map.contains_key(&key) {
                return Err(A::Error::custom(format!("the key {key:?} is there twice")));
            }
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

/// `None`: it cannot be done.
pub(super) fn edit(text: &str, from: &Value, to: &Value) -> Option<String> {
    let root = CstRootNode::parse(text, &ParseOptions::default()).ok()?;
    let (from, to) = (from.as_object()?, to.as_object()?);
    edit_object(&root.object_value_or_create()?, from, to)?;
    let text = root.to_string();
    Some(if text.ends_with('\n') { text } else { text + "\n" })
}

fn edit_object(object: &CstObject, from: &Map<String, Value>, to: &Map<String, Value>) -> Option<()> {
    for key in from.keys().filter(|key| !to.contains_key(*key)) {
        object.get(key)?.remove();
    }
    for (key, to) in to {
        let Some(from) = from.get(key) else {
            object.append(key, input(to));
            continue;
        };
        let property = object.get(key)?;
        match (from, to) {
            (from, to) if from == to => {}
            (Value::Object(from), Value::Object(to)) => edit_object(&property.object_value()?, from, to)?,
            (Value::Array(from), Value::Array(to)) => edit_array(&property.array_value()?, from, to)?,
            (_, to) => property.set_value(input(to)),
        }
    }
    Some(())
}

fn edit_array(array: &CstArray, from: &[Value], to: &[Value]) -> Option<()> {
    match ListEdit::between(from, to) {
        ListEdit::Prepend(count) => {
            for (index, item) in to[..count].iter().enumerate() {
                array.insert(index, input(item));
            }
        }
        ListEdit::Remove(places) => {
            for place in places {
                array.elements().into_iter().nth(place)?.remove();
            }
        }
        ListEdit::Replace => return None,
    }
    Some(())
}

fn input(value: &Value) -> CstInputValue {
    match value {
        Value::Null => CstInputValue::Null,
        Value::Bool(value) => CstInputValue::Bool(*value),
        Value::Number(value) => CstInputValue::Number(value.to_string()),
        Value::String(value) => CstInputValue::String(value.clone()),
        Value::Array(items) => CstInputValue::Array(items.iter().map(input).collect()),
        Value::Object(map) => {
            CstInputValue::Object(map.iter().map(|(key, value)| (key.clone(), input(value))).collect())
        }
    }
}
