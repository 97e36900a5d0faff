//! YAML and JSON as one tree that knows where its scalars stand.

use std::collections::HashMap;
use std::ops::Range;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use super::reference::ReadError;

/// Deeper documents are no manifests, and would end the stack.
const DEEPEST: usize = 100;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    Scalar(Scalar),
    List(Vec<Node>),
    /// In its order; a key that is no scalar has no name here.
    Table(Vec<(String, Node)>),
}

/// A text, and where it stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Scalar {
    pub(super) value: String,
    /// Bytes of the input that hold just this value, if there are such: not of block scalars,
    /// escapes and aliases.
    pub(super) at: Option<Range<usize>>,
    /// From 1; 0 where it is not known.
    pub(super) line: usize,
    /// Why there is no `at`.
    pub(super) shape: Shape,
}

/// How a scalar is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Shape {
    #[default]
    Plain,
    /// In quotes, with nothing escaped.
    Quoted,
    /// Over several lines, or with escapes.
    Folded,
    /// Somewhere else.
    Alias,
}

impl Node {
    pub(super) fn find(&self, key: &str) -> Option<&Node> {
        match self {
            Node::Table(entries) => entries.iter().find(|(name, _)| name == key).map(|(_, node)| node),
            _ => None,
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Node::Scalar(scalar) => Some(&scalar.value),
            _ => None,
        }
    }

    pub(super) fn items(&self) -> &[Node] {
        match self {
            Node::List(items) => items,
            _ => &[],
        }
    }

    /// The value at the end of these keys.
    pub(super) fn at(&self, keys: &[&str]) -> Option<&Node> {
        keys.iter().try_fold(self, |node, key| node.find(key))
    }
}

/// JSON, without places.
pub(super) fn of_json(value: serde_json::Value) -> Node {
    use serde_json::Value;
    match value {
        Value::Array(items) => Node::List(items.into_iter().map(of_json).collect()),
        Value::Object(entries) => Node::Table(entries.into_iter().map(|(key, value)| (key, of_json(value))).collect()),
        Value::String(value) => Node::Scalar(Scalar { value, ..Scalar::default() }),
        other => Node::Scalar(Scalar { value: other.to_string(), ..Scalar::default() }),
    }
}

/// The documents of a YAML stream.
pub(super) fn of_yaml(text: &str) -> Result<Vec<Node>, ReadError> {
    let mut reading =
        Reading { text, bytes: byte_places(text), open: Vec::new(), anchors: HashMap::new(), documents: Vec::new() };
    for event in Parser::new_from_str(text) {
        let (event, span) =
            event.map_err(|error| ReadError::Yaml { line: error.marker().line(), why: error.info().to_owned() })?;
        reading.event(event, span)?;
    }
    Ok(reading.documents)
}

/// The parser counts characters; this has the byte at which each begins. `None`: all are one byte
/// long.
fn byte_places(text: &str) -> Option<Vec<usize>> {
    (!text.is_ascii()).then(|| text.char_indices().map(|(at, _)| at).chain([text.len()]).collect())
}

/// What is begun and not yet ended.
enum Open {
    List(Vec<Node>),
    Table { entries: Vec<(String, Node)>, key: Option<String> },
}

struct Reading<'a> {
    text: &'a str,
    bytes: Option<Vec<usize>>,
    open: Vec<Open>,
    /// Scalars alone: what an alias of a table holds was seen where it was written.
    anchors: HashMap<usize, Scalar>,
    documents: Vec<Node>,
}

impl Reading<'_> {
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), ReadError> {
        match event {
            Event::Scalar(value, style, anchor, _) => {
                let scalar = self.scalar(value.into_owned(), style, span);
                if anchor != 0 {
                    self.anchors.insert(anchor, scalar.clone());
                }
                self.put(Node::Scalar(scalar));
            }
            Event::Alias(anchor) => {
                let named = self.anchors.get(&anchor).cloned().unwrap_or_default();
                let line = span.start.line();
                self.put(Node::Scalar(Scalar { at: None, line, shape: Shape::Alias, ..named }));
            }
            Event::SequenceStart(..) => self.begin(Open::List(Vec::new()), span)?,
            Event::MappingStart(..) => self.begin(Open::Table { entries: Vec::new(), key: None }, span)?,
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::List(items)) => self.put(Node::List(items)),
                Some(Open::Table { entries, .. }) => self.put(Node::Table(entries)),
                None => {}
            },
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn begin(&mut self, open: Open, span: Span) -> Result<(), ReadError> {
        if self.open.len() == DEEPEST {
            return Err(ReadError::Yaml { line: span.start.line(), why: format!("more than {DEEPEST} levels") });
        }
        self.open.push(open);
        Ok(())
    }

    fn put(&mut self, node: Node) {
        match self.open.last_mut() {
            None => self.documents.push(node),
            Some(Open::List(items)) => items.push(node),
            Some(Open::Table { entries, key }) => match key.take() {
                None => *key = Some(node.text().unwrap_or_default().to_owned()),
                Some(name) => entries.push((name, node)),
            },
        }
    }

    fn scalar(&self, value: String, style: ScalarStyle, span: Span) -> Scalar {
        let byte = |at: usize| match &self.bytes {
            None => at.min(self.text.len()),
            Some(places) => places.get(at).copied().unwrap_or(self.text.len()),
        };
        let within = byte(span.start.index())..byte(span.end.index());
        let quote = match style {
            ScalarStyle::Plain => "",
            ScalarStyle::SingleQuoted => "'",
            ScalarStyle::DoubleQuoted => "\"",
            _ => "|",
        };
        let at = self.text.get(within.clone()).and_then(|raw| literal(raw, quote, &value));
        let at = at.map(|at| within.start + at..within.start + at + value.len());
        let shape = match (&at, quote) {
            (None, _) => Shape::Folded,
            (Some(_), "") => Shape::Plain,
            (Some(_), _) => Shape::Quoted,
        };
        Scalar { value, at, line: span.start.line(), shape }
    }
}

/// Where `value` stands in what the parser took for it, which may begin with an anchor or a tag and
/// end with spaces.
fn literal(raw: &str, quote: &str, value: &str) -> Option<usize> {
    let mut rest = raw;
    while rest.starts_with(['&', '!']) && !value.starts_with(['&', '!']) {
        rest = rest[rest.find(char::is_whitespace)?..].trim_start();
    }
    let behind = rest.strip_prefix(quote)?.strip_prefix(value)?;
    behind.starts_with(quote).then(|| raw.len() - rest.len() + quote.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scalars(node: &Node) -> Vec<&Scalar> {
        match node {
            Node::Scalar(scalar) => vec![scalar],
            Node::List(items) => items.iter().flat_map(scalars).collect(),
            Node::Table(entries) => entries.iter().flat_map(|(_, node)| scalars(node)).collect(),
        }
    }

    #[test]
    fn scalars_know_where_they_stand() {
        let text = "# é\nä: plain\nb: 'single' # c\nc: \"double\"\nd: &x \"esc\\u0061ped\"\ne: |\n  block\nf: [a, *x]\ng: &y z\nh: *y\n";
        let documents = of_yaml(text).unwrap();
        let found: Vec<_> = documents.iter().flat_map(scalars).map(|s| (s.value.as_str(), s.shape, s.line)).collect();
        assert_eq!(
            found,
            [
                ("plain", Shape::Plain, 2),
                ("single", Shape::Quoted, 3),
                ("double", Shape::Quoted, 4),
                ("escaped", Shape::Folded, 5),
                ("block\n", Shape::Folded, 7),
                ("a", Shape::Plain, 8),
                ("escaped", Shape::Alias, 8),
                ("z", Shape::Plain, 9),
                ("z", Shape::Alias, 10),
            ]
        );
        for scalar in documents.iter().flat_map(scalars) {
            if let Some(at) = &scalar.at {
                assert_eq!(text[at.clone()], scalar.value);
            }
        }
        assert_eq!(of_yaml("a: 1\n---\nb: 2\n").unwrap().len(), 2);
    }

    #[test]
    fn what_is_no_yaml_is_said_with_its_line() {
        assert_eq!(of_yaml("a: b\nc: [\n").unwrap_err().to_string().split(':').next(), Some("line 3"));
        let deep = "[".repeat(100_000);
        assert!(of_yaml(&deep).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "([a-z]{0,3}(: |- |\\n| |&a |\\*a |'|\"|\\||>|#|\\[|\\{|---|é){0,3}){0,12}|\\PC{0,30}") {
            for node in of_yaml(&text).unwrap_or_default() {
                for scalar in scalars(&node) {
                    if let Some(at) = &scalar.at {
                        prop_assert_eq!(&text[at.clone()], &scalar.value);
                    }
                }
            }
        }
    }
}
