//! Where log lines go: stderr, as text or as JSON.

mod unrepeated;

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use self::unrepeated::Unrepeated;
use crate::config::{LogFormat, LogSettings};

/// Starts logging, once in the life of the process; later calls change nothing. `RUST_LOG` wins
/// over the configuration.
pub fn start(settings: LogSettings) {
    let (filter, wrong) = match variable() {
        Some(Ok((_, filter))) => (filter, None),
        Some(Err(error)) => (usual(settings), Some(error)),
        None => (usual(settings), None),
    };
    let lines = Lines { has_colours: settings.format == LogFormat::Text && colours() };
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(lines).with_target(false);
    let started = match settings.format {
        LogFormat::Json => log.json().flatten_event(true).finish().with(Unrepeated::new()).try_init(),
        LogFormat::Text => log.with_ansi(lines.has_colours).finish().with(Unrepeated::new()).try_init(),
    };
    if let (Ok(()), Some(error)) = (started, wrong) {
        tracing::warn!(%error, "RUST_LOG is not understood: the configuration's level is used");
    }
}

/// What the variable `RUST_LOG` says, if it says something.
pub(super) fn variable() -> Option<Result<(String, EnvFilter), ParseError>> {
    let said = std::env::var("RUST_LOG").ok().filter(|text| !text.is_empty())?;
    Some(EnvFilter::try_new(&said).map(|filter| (said, filter)))
}

/// Our own lines at the configured level; of the libraries only what is wrong, unless all is asked
/// for.
fn usual(settings: LogSettings) -> EnvFilter {
    let level = settings.level;
    let others = level.min(tracing::Level::WARN);
    EnvFilter::new(format!("{others},seawall={level}"))
}

/// What is logged is a line, whatever anybody put into it: clients, registries and files write some of
/// the words.
#[derive(Clone, Copy, Debug)]
struct Lines {
    has_colours: bool,
}

impl MakeWriter<'_> for Lines {
    type Writer = Lines;

    fn make_writer(&self) -> Lines {
        *self
    }
}

impl Write for Lines {
    /// Takes one event, which ends with its line.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event.strip_suffix(b"\n").unwrap_or(event));
        let line = format!("{}\n", escaped(&text, self.has_colours));
        io::stderr().lock().write_all(line.as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A text of others, for a terminal.
pub(super) fn printable(text: &str) -> Cow<'_, str> {
    escaped(text, false)
}

/// Without characters that end a line, move a terminal's cursor, turn the direction of the text, or look
/// like a space or like nothing at all. In a string of JSON it means the same. Colours begin with
/// U+001B; what is coloured has it escaped already.
fn escaped(text: &str, has_colours: bool) -> Cow<'_, str> {
    let is_bad = |c: char| !(is_seen(c) || has_colours && c == '\u{1b}');
    if !text.contains(is_bad) {
        return text.into();
    }
    let mut line = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            c if is_bad(c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(line, "\\u{unit:04x}").expect("a String can be written to");
                }
            }
            c => line.push(c),
        }
    }
    line.into()
}

/// What stands for itself: neither a control character, a mark of format, nor a space but the one that
/// separates words.
pub(super) fn is_seen(c: char) -> bool {
    matches!(c, '"' | '\'' | '\\') || c.escape_debug().len() == 1
}

/// <https://no-color.org>
fn colours() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_is_a_line_whatever_is_in_it() {
        for (text, expected) in [
            ("plain \u{e9}", "plain \u{e9}"),
            ("a\nINFO forged", "a\\nINFO forged"),
            ("\u{85}\u{9b}31m\u{2028}\u{2029}\u{202e}", "\\u0085\\u009b31m\\u2028\\u2029\\u202e"),
            ("\u{1b}[31m\r\t\u{7f}\0", "\\u001b[31m\\r\\t\\u007f\\u0000"),
            ("a\u{2003}b\u{3000}c\u{a0}d", "a\\u2003b\\u3000c\\u00a0d"),
            ("\u{600}\u{200b}\u{feff}\u{ad}\u{e0041}", "\\u0600\\u200b\\ufeff\\u00ad\\udb40\\udc41"),
            ("\"it's\" \\ ok", "\"it's\" \\ ok"),
        ] {
            assert_eq!(escaped(text, false), expected);
        }
        assert_eq!(escaped("\u{1b}[31mred\u{1b}[0m\n", true), "\u{1b}[31mred\u{1b}[0m\\n");
    }

    proptest! {
        #[test]
        fn json_means_the_same(text: String) {
            let written = serde_json::to_string(&text).unwrap();
            let line = escaped(&written, false);
            prop_assert!(!line.chars().any(char::is_control));
            prop_assert_eq!(serde_json::from_str::<String>(&line).unwrap(), text);
        }
    }

    #[test]
    fn libraries_are_quiet_and_never_louder_than_we_are() {
        let filter = |level| usual(LogSettings { level, format: LogFormat::Text }).to_string();
        assert_eq!(filter(tracing::Level::INFO), "seawall=info,warn");
        assert_eq!(filter(tracing::Level::DEBUG), "seawall=debug,warn");
        assert_eq!(filter(tracing::Level::ERROR), "seawall=error,error");
    }
}
