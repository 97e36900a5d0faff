//! One file's bytes with what a client needs in them, and without it again.

use super::super::Content;
use super::document::Format;
use super::merge;

/// Bytes of a file; `None`: there is none.
pub(super) type Bytes = Option<Vec<u8>>;

/// Why a file cannot be merged with.
#[derive(Debug, PartialEq)]
pub(super) struct Unfit(pub(super) String);

/// What came of laying it over.
#[derive(Debug, PartialEq)]
pub(super) struct Applied {
    pub(super) bytes: Vec<u8>,
    /// A document could not be edited, and was rewritten without its comments.
    pub(super) rewritten: bool,
}

/// What stays because somebody else has changed it since.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Left {
    /// The file: nothing of it can be told apart.
    Whole,
    /// These keys of it, which somebody has set again.
    Keys(Vec<String>),
}

impl Default for Left {
    fn default() -> Left {
        Left::Keys(Vec::new())
    }
}

impl Left {
    pub(super) fn is_nothing(&self) -> bool {
        *self == Left::default()
    }

    pub(super) fn and(self, other: Left) -> Left {
        match (self, other) {
            (Left::Keys(one), Left::Keys(other)) => Left::Keys([one, other].concat()),
            _ => Left::Whole,
        }
    }
}

/// What came of taking it out.
#[derive(Debug, PartialEq)]
pub(super) struct TakenOut {
    pub(super) bytes: Bytes,
    pub(super) left: Left,
}

impl Content {
    /// A root certificate: all who share its file want the same one.
    pub(super) fn is_root(&self) -> bool {
        matches!(self, Content::Whole(text) if text.starts_with("-----BEGIN CERTIFICATE-----"))
    }

    /// The same as a value, and how it is written. `None`: it is no document.
    fn document(&self) -> Option<(Format, serde_json::Value)> {
        match self {
            Content::Whole(_) | Content::Lines(_) => None,
            Content::Json(ours) => Some((Format::Json, ours.clone())),
            Content::Yaml(ours) => Some((Format::Yaml, ours.clone())),
            Content::Toml(ours) => Some((Format::Toml, serde_json::to_value(ours).expect("our keys are strings"))),
        }
    }

    /// The text of a file that says this and nothing else.
    pub fn text(&self) -> String {
        match (self, self.document()) {
            (Content::Whole(text) | Content::Lines(text), _) => text.clone(),
            (_, Some((format, ours))) => format.print(&ours),
            (_, None) => String::new(),
        }
    }

    /// What the bytes of such a document say.
    pub(super) fn read(&self, bytes: &[u8]) -> Option<serde_json::Value> {
        self.document()?.0.parse(text(Some(bytes)).ok()?).ok()
    }

    /// `theirs` with this in it, for `client`.
    pub(super) fn apply(&self, theirs: Option<&[u8]>, client: &str) -> Result<Applied, Unfit> {
        let kept = |bytes: Vec<u8>| Applied { bytes, rewritten: false };
        if let Some((format, ours)) = self.document() {
            let text = text(theirs)?;
            let from = format.parse(text).map_err(|why| unfit(format, &why))?;
            let edited = format.edit(text, &from, &merge::merge(&from, &ours));
            return Ok(Applied { bytes: edited.text.into_bytes(), rewritten: edited.rewritten });
        }
        match self {
            Content::Lines(ours) => Ok(kept(with_block(text(theirs)?, ours, client)?.into_bytes())),
            whole => Ok(kept(whole.text().into_bytes())),
        }
    }

    /// `current` without this, which was laid over `original` and has been changed by somebody
    /// since.
    pub(super) fn take_out(&self, current: &[u8], original: Option<&[u8]>, client: &str) -> Result<TakenOut, Unfit> {
        if let Some((format, ours)) = self.document() {
            let read = |bytes| Ok((text(bytes)?, format.parse(text(bytes)?).map_err(|why| unfit(format, &why))?));
            let (text, now) = read(Some(current))?;
            let before = original.map(|bytes| read(Some(bytes))).transpose()?.map(|(_, value)| value);
            let mut left = Vec::new();
            let rest = merge::take_out(&now, &ours, before.as_ref(), &mut left);
            let bytes = rest.map(|rest| format.edit(text, &now, &rest).text.into_bytes());
            return Ok(TakenOut { bytes, left: Left::Keys(left) });
        }
        match self {
            Content::Lines(_) => {
                let rest = without_block(text(Some(current))?, client)?;
                let is_gone = rest.trim().is_empty() && original.is_none();
                Ok(TakenOut { bytes: (!is_gone).then(|| rest.into_bytes()), left: Left::default() })
            }
            _ => Ok(TakenOut { bytes: Some(current.to_vec()), left: Left::Whole }),
        }
    }
}

fn text(bytes: Option<&[u8]>) -> Result<&str, Unfit> {
    std::str::from_utf8(bytes.unwrap_or_default()).map_err(|_| Unfit("it is not UTF-8".to_owned()))
}

fn unfit(format: Format, why: &str) -> Unfit {
    Unfit(format!("it is not {} that can be read: {why}", format.as_str()))
}

fn marks(client: &str) -> (String, String) {
    (format!("# BEGIN seawall ({client})"), format!("# END seawall ({client})"))
}

/// The text before the block, and after it. `None`: there is none.
fn around<'a>(text: &'a str, client: &str) -> Result<Option<(&'a str, &'a str)>, Unfit> {
    let (begin, end) = marks(client);
    let mut offset = 0;
    let mut begins = None;
    for line in text.split_inclusive('\n') {
        let next = offset + line.len();
        if line.trim() == begin {
            begins = Some(offset);
        } else if let Some(begins) = begins.filter(|_| line.trim() == end) {
            return Ok(Some((&text[..begins], &text[next..])));
        }
        offset = next;
    }
    match begins {
        Some(_) => Err(Unfit(format!("it has the line {begin:?} and no {end:?} after it"))),
        None => Ok(None),
    }
}

/// In its place if it is there, else at the end.
fn with_block(text: &str, ours: &str, client: &str) -> Result<String, Unfit> {
    let (begin, end) = marks(client);
    let line = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let ours = ours.trim_end_matches('\n').replace('\n', line);
    let block = format!("{begin}{line}{ours}{line}{end}{line}");
    let (before, after) = around(text, client)?.unwrap_or((text, ""));
    let line_end = if before.is_empty() || before.ends_with('\n') { "" } else { line };
    Ok(format!("{before}{line_end}{block}{after}"))
}

fn without_block(text: &str, client: &str) -> Result<String, Unfit> {
    Ok(around(text, client)?.map_or_else(|| text.to_owned(), |(before, after)| format!("{before}{after}")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::super::merge::tests::table;
    use super::*;

    fn documents(ours: &Value) -> [(Format, Content); 3] {
        let toml = toml::from_str(&Format::Toml.print(ours)).unwrap();
        [
            (Format::Json, Content::Json(ours.clone())),
            (Format::Toml, Content::Toml(toml)),
            (Format::Yaml, Content::Yaml(ours.clone())),
        ]
    }

    proptest! {
        /// Somebody adds a key to a file with ours in it: without ours it is what it was, and that
        /// key.
        #[test]
        fn a_document_comes_back(theirs in table(), ours in table(), later in any::<bool>()) {
            for (format, content) in documents(&ours) {
                let text = format.print(&theirs);
                let applied = content.apply(Some(text.as_bytes()), "x").unwrap();
                let (mut now, mut expected) = (content.read(&applied.bytes).unwrap(), theirs.clone());
                prop_assert_eq!(&now, &super::super::merge::merge(&theirs, &ours));
                now["later"] = later.into();
                expected["later"] = later.into();
                let now = format.print(&now);
                let out = content.take_out(now.as_bytes(), Some(text.as_bytes()), "x").unwrap();
                prop_assert_eq!(content.read(&out.bytes.unwrap()), Some(expected));
                prop_assert!(out.left.is_nothing());
            }
        }
    }

    #[test]
    fn lines_have_their_block() {
        let ours = |text: &str| Content::Lines(text.to_owned());
        let apply = |content: &Content, text: &str| {
            String::from_utf8(content.apply(Some(text.as_bytes()), "hosts").unwrap().bytes).unwrap()
        };
        let once = apply(&ours("1.2.3.4 ghcr.io\n"), "127.0.0.1 localhost");
        let block = "# BEGIN seawall (hosts)\n1.2.3.4 ghcr.io\n# END seawall (hosts)\n";
        assert_eq!(once, format!("127.0.0.1 localhost\n{block}"));
        assert_eq!(apply(&ours("1.2.3.4 ghcr.io"), &once), once);
        let later = format!("{once}::1 six\n");
        assert_eq!(apply(&ours("1.2.3.5 ghcr.io"), &later), later.replace("1.2.3.4", "1.2.3.5"));
        let out = ours("").take_out(later.as_bytes(), Some(b"127.0.0.1 localhost"), "hosts").unwrap();
        assert_eq!(out.bytes.unwrap(), b"127.0.0.1 localhost\n::1 six\n");
        let other = apply(&ours("x"), &later.replace("(hosts)", "(shell)"));
        assert!(other.contains("(shell)") && other.contains("(hosts)"), "another client's block is not ours");
        let torn = ours("x").apply(Some(b"# BEGIN seawall (hosts)\nx\n"), "hosts").unwrap_err();
        assert!(torn.0.contains("END"), "{torn:?}");
        assert_eq!(ours("x").take_out(block.as_bytes(), None, "hosts").unwrap().bytes, None);
    }

    #[test]
    fn lines_end_as_those_of_the_file() {
        let ours = Content::Lines("a\nb\n".to_owned());
        let theirs = b"127.0.0.1 localhost\r\n::1 six";
        let once = ours.apply(Some(theirs), "hosts").unwrap().bytes;
        let expected =
            "127.0.0.1 localhost\r\n::1 six\r\n# BEGIN seawall (hosts)\r\na\r\nb\r\n# END seawall (hosts)\r\n";
        assert_eq!(String::from_utf8(once.clone()).unwrap(), expected);
        assert_eq!(ours.apply(Some(&once), "hosts").unwrap().bytes, once);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_not_written() {
        let json = Content::Json(serde_json::json!({"a": 1}));
        assert!(json.apply(Some(b"{,}"), "docker").unwrap_err().0.contains("JSON"));
        assert!(json.apply(Some(b"\xff"), "docker").unwrap_err().0.contains("UTF-8"));
        assert_eq!(json.apply(None, "docker").unwrap().bytes, b"{\n  \"a\": 1\n}\n");
    }
}
