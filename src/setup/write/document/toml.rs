//! TOML, edited with its comments and order kept.

use serde_json::{Map, Value};
use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, TableLike, value};

use super::super::merge::ListEdit;

/// `None`: it cannot be done.
pub(super) fn edit(text: &str, from: &Value, to: &Value) -> Option<String> {
    let mut document: DocumentMut = text.parse().ok()?;
    edit_table(document.as_table_mut(), from.as_object()?, to.as_object()?)?;
    Some(document.to_string())
}

fn edit_table(table: &mut dyn TableLike, from: &Map<String, Value>, to: &Map<String, Value>) -> Option<()> {
    for key in from.keys().filter(|key| !to.contains_key(*key)) {
        table.remove(key)?;
    }
    for (key, to) in to {
        let Some(from) = from.get(key) else {
            table.insert(key, item(to)?);
            continue;
        };
        match (from, to) {
            (from, to) if from == to => {}
            (Value::Object(from), Value::Object(to)) => edit_table(table.get_mut(key)?.as_table_like_mut()?, from, to)?,
            (Value::Array(from), Value::Array(to)) => edit_list(table.get_mut(key)?, from, to)?,
            (_, to) => replace(table.get_mut(key)?, to)?,
        }
    }
    Some(())
}

/// What is written behind a value stays.
fn replace(old: &mut Item, to: &Value) -> Option<()> {
    let mut new = item(to)?;
    if let (Some(old), Some(new)) = (old.as_value(), new.as_value_mut()) {
        *new.decor_mut() = old.decor().clone();
    }
    *old = new;
    Some(())
}

fn edit_list(list: &mut Item, from: &[Value], to: &[Value]) -> Option<()> {
    match (ListEdit::between(from, to), list) {
        (ListEdit::Prepend(count), Item::Value(toml_edit::Value::Array(array))) => {
            for (index, new) in to[..count].iter().enumerate() {
                array.insert(index, plain(new)?);
            }
        }
        (ListEdit::Remove(places), Item::Value(toml_edit::Value::Array(array))) => {
            places.into_iter().for_each(|place| remove(array, place));
        }
        (ListEdit::Remove(places), Item::ArrayOfTables(tables)) => places.into_iter().for_each(|place| {
            tables.remove(place);
        }),
        (ListEdit::Prepend(_), list) => *list = item(&Value::Array(to.to_vec()))?,
        _ => return None,
    }
    Some(())
}

/// A comment behind the comma of one item is held by the next one: it stays when that goes.
fn remove(array: &mut Array, place: usize) {
    let gone = array.remove(place);
    let before = gone.decor().prefix().and_then(toml_edit::RawString::as_str).unwrap_or_default().to_owned();
    if !before.contains('#') {
        return;
    }
    match array.get_mut(place) {
        Some(next) => next.decor_mut().set_prefix(before),
        None => array.set_trailing(before),
    }
}

/// A table is written under a header of its own; one that holds nothing but tables needs none.
fn item(from: &Value) -> Option<Item> {
    match from {
        Value::Object(map) => table(map).map(Item::Table),
        Value::Array(items) if !items.is_empty() && items.iter().all(Value::is_object) => {
            let mut tables = ArrayOfTables::new();
            for map in items.iter().filter_map(Value::as_object) {
                tables.push(table(map)?);
            }
            Some(Item::ArrayOfTables(tables))
        }
        other => plain(other).map(value),
    }
}

fn table(map: &Map<String, Value>) -> Option<Table> {
    let mut table = Table::new();
    table.set_implicit(!map.is_empty() && map.values().all(Value::is_object));
    for (key, value) in map {
        table.insert(key, item(value)?);
    }
    Some(table)
}

/// On one line.
fn plain(from: &Value) -> Option<toml_edit::Value> {
    Some(match from {
        Value::Null => return None,
        Value::Bool(value) => (*value).into(),
        Value::Number(number) => number.as_i64().map(Into::into).or_else(|| number.as_f64().map(Into::into))?,
        Value::String(value) => value.into(),
        Value::Array(items) => items.iter().map(plain).collect::<Option<Array>>()?.into(),
        Value::Object(map) => {
            let mut table = InlineTable::new();
            for (key, value) in map {
                table.insert(key, plain(value)?);
            }
            table.into()
        }
    })
}
