//! JSON, edited with its layout kept.

use jsonc_parser::ParseOptions;
use jsonc_parser::cst::{CstArray, CstInputValue, CstNode, CstObject, CstRootNode};
use serde_json::{Map, Value};

use super::super::merge::{Step, step};

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
            (Value::Array(from), Value::Array(to)) => edit_array(&property.array_value()?, from, to),
            (_, to) => property.set_value(input(to)),
        }
    }
    Some(())
}

fn edit_array(array: &CstArray, from: &[Value], to: &[Value]) {
    match step(from, to) {
        Step::Prepend(count) => {
            for (index, item) in to[..count].iter().enumerate() {
                array.insert(index, input(item));
            }
        }
        Step::Behead(count) => array.elements().into_iter().take(count).for_each(CstNode::remove),
        Step::Replace => {
            array.elements().into_iter().for_each(CstNode::remove);
            to.iter().for_each(|item| {
                array.append(input(item));
            });
        }
    }
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
