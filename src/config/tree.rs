//! What was written, before it means anything: a tree of values, each of which knows the place it
//! came from.
//!
//! 1. the TOML file becomes a tree ([`parse`]);
//! 2. variables and flags replace values in it ([`Value::set`]), as text whose type is found out
//!    when it is read.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Fault, Place};

/// A value and where it was written.
#[derive(Clone, Debug)]
pub(super) struct Value {
    pub(super) place: Place,
    pub(super) kind: Kind,
}

/// The types of TOML, and text that was written where everything is text.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    Text(String),
    Whole(i64),
    Truth(bool),
    List(Vec<Value>),
    Table(Table),
    /// From a variable or a flag: whatever is wanted of it.
    Raw(String),
    /// What no key wants: the name of its type.
    Other(&'static str),
}

/// Keys and values; of each key the place as well.
pub(super) type Table = BTreeMap<String, (Place, Value)>;

/// Reads a TOML document. The file's name is only for messages.
pub(super) fn parse(file: &Arc<str>, text: &str) -> Result<Value, Fault> {
    let lines = Lines::new(text);
    let at = |offset| lines.place(file, offset);
    let table = DeTable::parse(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        let hint = unquoted(text, start).map(|name| format!("; quote the name: \"{name}\" = …")).unwrap_or_default();
        Fault::at(at(start), format!("this is not TOML: {}{hint}", error.message()))
    })?;
    Ok(Value { place: at(0), kind: Kind::Table(convert_table(table.into_inner(), &at)) })
}

/// The key at this offset, if only quotes make it one: `lab:5000 = …`.
fn unquoted(text: &str, at: usize) -> Option<&str> {
    let ends = |c: char| c.is_whitespace() || "={}[],\"'#".contains(c);
    let (before, after) = text.split_at_checked(at)?;
    let start = before.rfind(ends).map_or(0, |end| end + before[end..].chars().next().map_or(1, char::len_utf8));
    let end = at + after.find(ends).unwrap_or(after.len());
    let name = &text[start..end];
    let is_bare = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let is_key = text[end..].trim_start_matches([' ', '\t']).starts_with('=');
    (is_key && !name.is_empty() && !name.bytes().all(is_bare)).then_some(name)
}

fn convert_table(table: DeTable<'_>, at: &dyn Fn(usize) -> Place) -> Table {
    let convert = |(key, value): (Spanned<Cow<'_, str>>, _)| {
        (key.get_ref().to_string(), (at(key.span().start), convert(value, at)))
    };
    table.into_iter().map(convert).collect()
}

fn convert(value: Spanned<DeValue<'_>>, at: &dyn Fn(usize) -> Place) -> Value {
    let place = at(value.span().start);
    let kind = match value.into_inner() {
        DeValue::String(text) => Kind::Text(text.into_owned()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Kind::Whole(number),
            Err(_) => Kind::Other("a number beyond 64 bits"),
        },
        DeValue::Boolean(truth) => Kind::Truth(truth),
        DeValue::Array(items) => Kind::List(items.into_iter().map(|item| convert(item, at)).collect()),
        DeValue::Table(table) => Kind::Table(convert_table(table, at)),
        DeValue::Float(_) => Kind::Other("a fraction"),
        DeValue::Datetime(_) => Kind::Other("a date"),
    };
    Value { place, kind }
}

/// Finds the line of an offset.
struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Lines<'a> {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Lines { text, starts }
    }

    fn place(&self, file: &Arc<str>, offset: usize) -> Place {
        let line = self.starts.partition_point(|start| *start <= offset);
        let start = self.starts[line - 1];
        let before = self.text.as_bytes().get(start..offset).unwrap_or_default();
        // Characters, not bytes: the bytes that begin one.
        let column = 1 + before.iter().filter(|byte| (**byte & 0xc0) != 0x80).count();
        Place::File { file: file.clone(), line, column }
    }
}

impl Value {
    /// An empty document.
    pub(super) fn empty() -> Value {
        Value { place: Place::Default, kind: Kind::Table(Table::new()) }
    }

    /// Puts a value at a path of keys, over what is there.
    pub(super) fn set(&mut self, path: &[&str], value: Value) -> Result<(), Fault> {
        let [first, rest @ ..] = path else {
            *self = value;
            return Ok(());
        };
        let place = value.place.clone();
        let Kind::Table(table) = &mut self.kind else {
            // Its text may be a secret.
            return Err(Fault::at(place, "what it names is a value, not a section"));
        };
        let entry = table.entry((*first).to_owned()).or_insert_with(|| (place.clone(), Value::empty()));
        if rest.is_empty() {
            entry.0 = place;
        }
        entry.1.set(rest, value)
    }

    /// A fault of this value. What it repeats of the value has no password: a URL with one may
    /// stand where none belongs.
    pub(super) fn fault(&self, what: impl fmt::Display) -> Fault {
        let what = what.to_string();
        let what = match &self.kind {
            Kind::Text(text) | Kind::Raw(text) => match login(text) {
                Some(login) => {
                    let escaped = format!("{login:?}");
                    what.replace(login, HIDDEN).replace(escaped.trim_matches('"'), HIDDEN)
                }
                None => what,
            },
            _ => what,
        };
        Fault::at(self.place.clone(), what)
    }

    /// It is of another type than is wanted.
    fn unlike(&self, wanted: &str) -> Fault {
        self.fault(format!("wants {wanted}, not {}", self.kind))
    }

    /// As text; `wanted` says what it should look like.
    pub(super) fn text(&self, wanted: &str) -> Result<&str, Fault> {
        match &self.kind {
            Kind::Text(text) | Kind::Raw(text) => Ok(text),
            _ => Err(self.unlike(wanted)),
        }
    }

    /// As a whole number between two others.
    pub(super) fn whole(&self, low: i64, high: i64) -> Result<i64, Fault> {
        let wanted = format!("a whole number from {low} to {high}");
        let number = match &self.kind {
            Kind::Whole(number) => *number,
            Kind::Raw(text) => text.trim().parse().map_err(|_| self.unlike(&wanted))?,
            _ => return Err(self.unlike(&wanted)),
        };
        if (low..=high).contains(&number) { Ok(number) } else { Err(self.unlike(&wanted)) }
    }

    /// As yes or no.
    pub(super) fn truth(&self) -> Result<bool, Fault> {
        match &self.kind {
            Kind::Truth(truth) => Ok(*truth),
            Kind::Raw(text) => text.trim().parse().map_err(|_| self.unlike("true or false")),
            _ => Err(self.unlike("true or false")),
        }
    }

    /// As a list. In a variable or a flag: a TOML array, or items between commas.
    pub(super) fn items(&self) -> Result<Cow<'_, [Value]>, Fault> {
        match &self.kind {
            Kind::List(items) => Ok(Cow::Borrowed(items)),
            Kind::Raw(text) if text.trim_start().starts_with('[') => match self.parse_raw(text)?.kind {
                Kind::List(items) => Ok(Cow::Owned(items)),
                _ => Err(self.unlike("a list")),
            },
            Kind::Raw(text) => {
                let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
                let raw = |part: &str| Value { place: self.place.clone(), kind: Kind::Raw(part.to_owned()) };
                Ok(Cow::Owned(parts.map(raw).collect()))
            }
            _ => Err(self.unlike("a list")),
        }
    }

    /// As keys and values.
    pub(super) fn table(&self) -> Result<Cow<'_, Table>, Fault> {
        match &self.kind {
            Kind::Table(table) => Ok(Cow::Borrowed(table)),
            Kind::Raw(text) => match self.parse_raw(text)?.kind {
                Kind::Table(table) => Ok(Cow::Owned(table)),
                _ => Err(self.unlike("a table")),
            },
            _ => Err(self.unlike("a table")),
        }
    }

    /// What a variable says where a list or a table is wanted, as TOML. All of it is where the
    /// variable is. It may hold a secret: a message does not repeat it.
    fn parse_raw(&self, text: &str) -> Result<Value, Fault> {
        match DeValue::parse(text.trim()) {
            Ok(value) => Ok(convert(value, &|_| self.place.clone())),
            Err(error) => Err(self.fault(format!("this is not a TOML value: {}", error.message()))),
        }
    }
}

/// What stands for a secret.
pub(super) const HIDDEN: &str = "(hidden)";

/// `USER:PASSWORD` in front of a host.
fn login(text: &str) -> Option<&str> {
    let authority = text.split_once("://").map_or(text, |(_, rest)| rest);
    let (login, _) = authority.rsplit_once('@')?;
    login.contains(':').then_some(login)
}

/// For messages: what it is, shown if it is short.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Text(text) | Kind::Raw(text) => write!(f, "{text:?}"),
            Kind::Whole(number) => write!(f, "{number}"),
            Kind::Truth(truth) => write!(f, "{truth}"),
            Kind::List(_) => f.write_str("a list"),
            Kind::Table(_) => f.write_str("a table"),
            Kind::Other(name) => f.write_str(name),
        }
    }
}
