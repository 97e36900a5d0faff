//! What is in force, as TOML for people, and as JSON.

use serde_json::{Map, json};
use toml::Value;

use crate::cli::log::{is_seen, printable};
use crate::config::show::{Group, InForce, Setting};

/// A value that is wider has its place right behind it: the places of the others would stand too
/// far away from their values.
const WIDEST: usize = 48;
/// Of a line of names.
const COLUMNS: usize = 100;

/// TOML that means the same, but for what is hidden.
pub(super) fn text(shown: &InForce, with_builtin: bool) -> String {
    let file = shown.source.as_ref().map_or("no file".to_owned(), |file| file.display().to_string());
    let mut lines = vec![format!("# {}, variables, flags and defaults", printable(&file))];
    shown.groups.iter().for_each(|group| lines.extend(group_lines(group)));
    if with_builtin {
        shown.builtin.iter().for_each(|group| lines.extend(group_lines(group)));
    } else {
        lines.push(String::new());
        lines.extend(builtin_lines(shown));
    }
    lines.push(String::new());
    lines.join("\n")
}

fn group_lines(group: &Group) -> Vec<String> {
    let header = if group.path.is_empty() { Vec::new() } else { vec![String::new(), group.header.clone()] };
    let values: Vec<_> = group.settings.iter().map(|setting| toml(&setting.value)).collect();
    let key_width = group.settings.iter().map(|setting| setting.key.len()).max().unwrap_or_default();
    let widths = values.iter().map(|value| value.chars().count());
    let width = widths.filter(|width| *width <= WIDEST).max().unwrap_or_default();
    let line = |(setting, value): (&Setting, &String)| {
        let from = setting.from.to_string();
        format!("{:<key_width$} = {value:<width$}  # {}", setting.key, printable(&from))
    };
    header.into_iter().chain(group.settings.iter().zip(&values).map(line)).collect()
}

/// In a few lines of comment.
fn builtin_lines(shown: &InForce) -> Vec<String> {
    let mut lines = vec!["# built in, shown with --all:".to_owned()];
    for name in names(shown) {
        match lines.last_mut() {
            Some(line) if line.len() + name.len() < COLUMNS => *line = format!("{line} {name}"),
            _ => lines.push(format!("#   {name}")),
        }
    }
    lines
}

fn names(shown: &InForce) -> Vec<String> {
    let names = shown.builtin.iter().flat_map(|group| &group.settings).filter(|setting| setting.key == "name");
    names.filter_map(|setting| setting.value.as_str().map(str::to_owned)).collect()
}

/// A value in one line. What a terminal would not show as it is, is escaped.
fn toml(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Array(items) => format!("[{}]", items.iter().map(toml).collect::<Vec<_>>().join(", ")),
        Value::Table(table) if table.is_empty() => "{}".to_owned(),
        Value::Table(table) => {
            let pair = |(key, value): (&String, &Value)| format!("{} = {}", bare_or_quoted(key), toml(value));
            format!("{{ {} }}", table.iter().map(pair).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

fn bare_or_quoted(key: &str) -> String {
    let is_bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
    if is_bare { key.to_owned() } else { quoted(key) }
}

/// <https://toml.io/en/v1.0.0#string>
fn quoted(text: &str) -> String {
    let escaped = text.chars().map(|c| match c {
        '"' | '\\' => format!("\\{c}"),
        '\n' => "\\n".to_owned(),
        '\t' => "\\t".to_owned(),
        c if is_seen(c) => c.to_string(),
        c if u32::from(c) > 0xffff => format!("\\U{:08x}", u32::from(c)),
        c => format!("\\u{:04x}", u32::from(c)),
    });
    format!("\"{}\"", escaped.collect::<String>())
}

/// Of each key its value and where it is from; the registries are a list of such.
pub(super) fn json(shown: &InForce, with_builtin: bool) -> serde_json::Result<String> {
    let (registries, sections): (Vec<_>, Vec<_>) = shown.groups.iter().partition(|group| group.path == "registry");
    let mut keys = Map::new();
    for group in sections {
        keys.extend(settings(group)?.into_iter().map(|(key, setting)| match group.path {
            "" => (key, setting),
            path => (format!("{path}.{key}"), setting),
        }));
    }
    let builtin = shown.builtin.iter().filter(|_| with_builtin);
    let registries = registries.into_iter().chain(builtin).map(settings).collect::<Result<Vec<_>, _>>()?;
    let file = shown.source.as_ref().map(|file| file.display().to_string());
    let all = json!({ "file": file, "keys": keys, "registries": registries, "builtin": names(shown) });
    let lines = serde_json::to_string_pretty(&all)?;
    Ok(lines.lines().map(|line| format!("{}\n", printable(line))).collect())
}

fn settings(group: &Group) -> serde_json::Result<Map<String, serde_json::Value>> {
    let one = |setting: &Setting| {
        let value = serde_json::to_value(&setting.value)?;
        Ok((setting.key.to_owned(), json!({ "value": value, "from": setting.from.to_string() })))
    };
    group.settings.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_are_toml() {
        let value: Value = toml::from_str::<toml::Table>(
            "x = [{ match = \"*:latest\", \"a.b\" = \"C:\\\\x \\\"y\\\"\" }, 4, true, {}, \"\\u0007\\u202e\\u00a0\\U000e0041é\\n\"]",
        )
        .unwrap()["x"]
            .clone();
        let expected =
            r#"[{ "a.b" = "C:\\x \"y\"", match = "*:latest" }, 4, true, {}, "\u0007\u202e\u00a0\U000e0041é\n"]"#;
        assert_eq!(toml(&value), expected);
    }

    proptest! {
        #[test]
        fn any_text_is_a_line_that_reads_back(text: String) {
            let written = quoted(&text);
            prop_assert_eq!(printable(&written), written.as_str());
            let read: toml::Table = toml::from_str(&format!("x = {written}")).unwrap();
            prop_assert_eq!(read["x"].as_str().unwrap(), text);
        }
    }
}
