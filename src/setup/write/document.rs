//! Documents that others write too: read as values, and edited so that what is not changed stays as
//! it is written.
//!
//! Every edit is read again: text that does not say what it should is not used.

mod json;
mod toml;
mod yaml;

use serde_json::Value;

/// How a document is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Toml,
    Yaml,
}

/// The text of a document after an edit.
#[derive(Debug, PartialEq)]
pub(super) struct Edited {
    pub(super) text: String,
    /// It was rewritten: the layout, and comments if it had any, are lost.
    pub(super) rewritten: bool,
}

impl Format {
    /// Its name.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Format::Json => "JSON",
            Format::Toml => "TOML",
            Format::Yaml => "YAML",
        }
    }

    /// The value of a document. One without any is an empty table.
    ///
    /// # Errors
    /// Says what is wrong, and where.
    pub(super) fn parse(self, text: &str) -> Result<Value, String> {
        let value = match self {
            Format::Json if text.trim().is_empty() => Value::Null,
            Format::Json => json::parse(text)?,
            Format::Toml => ::toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?,
            Format::Yaml => yaml::parse(text)?,
        };
        match value {
            Value::Null => Ok(Value::Object(serde_json::Map::new())),
            Value::Object(_) => Ok(value),
            _ => Err("it is not a table".to_owned()),
        }
    }

    /// A document that says `value`.
    pub(crate) fn print(self, value: &Value) -> String {
        match self {
            Format::Json => format!("{value:#}\n"),
            Format::Toml => ::toml::to_string(value).expect("our keys are TOML"),
            Format::Yaml => yaml::print(value),
        }
    }

    /// `text`, which says `from`, changed so that it says `to`.
    pub(super) fn edit(self, text: &str, from: &Value, to: &Value) -> Edited {
        if from == to {
            return Edited { text: text.to_owned(), rewritten: false };
        }
        let is_bare = text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
        let edited = match self {
            Format::Toml | Format::Yaml if is_bare => Some(after(text, &self.print(to))),
            Format::Json => json::edit(text, from, to),
            Format::Toml => toml::edit(text, from, to),
            Format::Yaml => yaml::edit(text, from, to),
        };
        match edited {
            Some(text) if self.parse(&text).as_ref() == Ok(to) => Edited { text, rewritten: false },
            _ => Edited { text: self.print(to), rewritten: !text.trim().is_empty() },
        }
    }
}

/// Comments that stand alone stay above.
fn after(comments: &str, text: &str) -> String {
    let end = if comments.is_empty() || comments.ends_with('\n') { "" } else { "\n" };
    format!("{comments}{end}{text}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::merge::merge;
    use super::super::merge::tests::table;
    use super::*;

    const FORMATS: [Format; 3] = [Format::Json, Format::Toml, Format::Yaml];

    #[test]
    fn what_is_not_ours_stays_as_it_is_written() {
        let json = "{\n    \"debug\": true,\n    \"registry-mirrors\": [\n        \"https://a\"\n    ],\n    \"log-opts\": {\"max-size\": \"1m\"}\n}\n";
        let ours = json!({"registry-mirrors": ["http://s"], "log-opts": {"tag": "x"}, "bip": "10.0.0.1/24"});
        let from = Format::Json.parse(json).unwrap();
        let edited = Format::Json.edit(json, &from, &merge(&from, &ours));
        let expected = "{\n    \"debug\": true,\n    \"registry-mirrors\": [\n        \"http://s\",\n        \"https://a\"\n    ],\n    \"log-opts\": {\n        \"max-size\": \"1m\",\n        \"tag\": \"x\"\n    },\n    \"bip\": \"10.0.0.1/24\"\n}\n";
        assert_eq!(edited, Edited { text: expected.to_owned(), rewritten: false });

        let toml = "# top\nversion = 2 # two\n\n[plugins]\n  [plugins.\"io.containerd.grpc.v1.cri\"]\n    sandbox_image = \"pause\" # keep\n\n[debug]\nlevel = \"info\"\n";
        let ours =
            json!({"plugins": {"io.containerd.grpc.v1.cri": {"registry": {"config_path": "/etc/containerd/certs.d"}}}});
        let from = Format::Toml.parse(toml).unwrap();
        let edited = Format::Toml.edit(toml, &from, &merge(&from, &ours));
        let expected = "# top\nversion = 2 # two\n\n[plugins]\n  [plugins.\"io.containerd.grpc.v1.cri\"]\n    sandbox_image = \"pause\" # keep\n\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\nconfig_path = \"/etc/containerd/certs.d\"\n\n[debug]\nlevel = \"info\"\n";
        assert_eq!(edited, Edited { text: expected.to_owned(), rewritten: false });

        let yaml = "# ours\nmirrors:\n  # the hub\n  docker.io:\n    endpoint:\n      - \"https://a\" # first\n  quay.io: {endpoint: [\"https://q\"]}\nconfigs: {}\n";
        let ours = json!({"mirrors": {"docker.io": {"endpoint": ["http://s"]}, "*": {"endpoint": ["http://s"]}}});
        let from = Format::Yaml.parse(yaml).unwrap();
        let edited = Format::Yaml.edit(yaml, &from, &merge(&from, &ours));
        assert!(!edited.rewritten, "{edited:?}");
        for kept in
            ["# ours\n", "  # the hub\n", "# first", "  quay.io: {endpoint: [\"https://q\"]}\n", "configs: {}\n"]
        {
            assert!(edited.text.contains(kept), "{kept:?}: {}", edited.text);
        }
    }

    #[test]
    fn an_empty_document_is_an_empty_table_and_a_broken_one_says_where() {
        for format in FORMATS {
            assert_eq!(format.parse(" \n"), Ok(json!({})));
            let edited = format.edit("", &json!({}), &json!({"a": {"b": 1}}));
            assert_eq!((format.parse(&edited.text), edited.rewritten), (Ok(json!({"a": {"b": 1}})), false));
        }
        for format in [Format::Toml, Format::Yaml] {
            let edited = format.edit("# mine\n", &json!({}), &json!({"a": {"b": 1}}));
            assert!(edited.text.starts_with("# mine\n") && !edited.rewritten, "{edited:?}");
        }
        for (format, text) in [
            (Format::Json, "{\n  \"a\": 1,\n}"),
            (Format::Json, "[]"),
            (Format::Json, "{\"a\": {\"b\": 1, \"b\": 2}}"),
            (Format::Toml, "a = 1\nb = \n"),
            (Format::Yaml, "a: 1\n b: [2\n"),
            (Format::Yaml, "a: 1\n---\nb: 2\n"),
            (Format::Yaml, "- a\n"),
        ] {
            let said = format.parse(text).unwrap_err();
            assert!(!said.is_empty(), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_with_json_is_said() {
        let said = |text: &str| Format::Json.parse(text).unwrap_err();
        assert!(said("\u{feff}{}").contains("byte order mark"));
        assert!(said("{\n  // mirrors\n  \"a\": 1\n}").contains("no comments"), "{}", said("{\n  // x\n}"));
        assert!(said("{\"a\": 1, \"a\": 2}").contains("\"a\" is there twice"));
        assert!(!said("{,}").contains("comments"));
    }

    /// A list with ours in it, but not first, stays as it is; one that loses ours keeps its
    /// comments.
    #[test]
    fn a_list_keeps_its_comments() {
        let toml = "x = [\n  \"a\", # one\n  \"s\", # two\n  \"b\", # three\n]\n";
        let from = Format::Toml.parse(toml).unwrap();
        let to = merge(&from, &json!({"x": ["s"]}));
        assert_eq!(Format::Toml.edit(toml, &from, &to), Edited { text: toml.to_owned(), rewritten: false });
        let without = Format::Toml.edit(toml, &from, &json!({"x": ["a", "b"]}));
        assert!(!without.rewritten && without.text.contains("# one"), "{without:?}");
        let yaml = "mirrors: {}\n";
        let edited = Format::Yaml.edit(
            yaml,
            &json!({"mirrors": {}}),
            &json!({"mirrors": {"a": {"b": ["c"]}, "d": {"e": ["f"]}}}),
        );
        assert!(edited.text.lines().count() > 3, "{edited:?}");
    }

    proptest! {
        #[test]
        fn an_edit_says_what_it_should(from in table(), to in table()) {
            for format in FORMATS {
                let text = format.print(&from);
                prop_assert_eq!(format.parse(&text), Ok(from.clone()), "{}", text);
                let edited = format.edit(&text, &from, &to);
                prop_assert_eq!(format.parse(&edited.text), Ok(to.clone()), "{:?}", format);
            }
        }

        /// YAML that the editor cannot do is rewritten; the others are edited.
        #[test]
        fn ours_is_laid_over_without_writing_anew(theirs in table(), ours in table()) {
            for format in [Format::Json, Format::Toml] {
                let text = format.print(&theirs);
                prop_assert!(!format.edit(&text, &theirs, &merge(&theirs, &ours)).rewritten, "{}", text);
            }
        }

        #[test]
        fn no_text_makes_a_parser_panic(text in "[a-c:{}\\[\\]\"'#=,. \n-]{0,40}") {
            for format in FORMATS {
                if let Ok(from) = format.parse(&text) {
                    let edited = format.edit(&text, &from, &merge(&from, &json!({"a": {"b": ["c"]}})));
                    prop_assert!(format.parse(&edited.text).is_ok());
                }
            }
        }
    }
}
