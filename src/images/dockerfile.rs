//! What a Dockerfile names: `FROM`, `COPY --from`, `RUN --mount=from=`, `# syntax=` (docs.docker.com/reference/dockerfile).

use std::collections::HashMap;
use std::ops::Range;

use super::name::{Name, tail};
use super::{Place, Read, Reference};

/// Whether its first instruction can begin a Dockerfile.
pub(super) fn is_one(text: &str) -> bool {
    let mut lines = text.trim_start_matches('\u{feff}').lines().map(str::trim);
    let first = lines.find(|line| !line.is_empty() && !line.starts_with('#')).unwrap_or_default();
    let (word, rest) = first.split_once(char::is_whitespace).unwrap_or_default();
    (word.eq_ignore_ascii_case("from") || word.eq_ignore_ascii_case("arg")) && !rest.trim().is_empty()
}

pub(super) fn read(text: &str) -> Read {
    let mut reading = Reading::default();
    let (directives, escape) = directives(text);
    directives.into_iter().for_each(|(line, word)| reading.name(line, &word, "an image"));
    let mut lines = Lines { text, at: 0, line: 0 };
    while let Some(instruction) = lines.instruction(escape) {
        lines.skip_documents(&instruction);
        reading.instruction(&instruction);
    }
    reading.read
}

/// A run of characters without spaces.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Word<'a> {
    text: &'a str,
    at: usize,
}

impl Word<'_> {
    fn range(&self) -> Range<usize> {
        self.at..self.at + self.text.len()
    }
}

/// The words of one, over all its lines.
#[derive(Debug, Default)]
struct Instruction<'a> {
    line: usize,
    words: Vec<Word<'a>>,
}

/// Lines, and where each begins.
struct Lines<'a> {
    text: &'a str,
    at: usize,
    line: usize,
}

impl<'a> Lines<'a> {
    fn next(&mut self) -> Option<(usize, &'a str)> {
        let rest = self.text.get(self.at..).filter(|rest| !rest.is_empty())?;
        let line = rest.split_inclusive('\n').next()?;
        let at = self.at;
        self.at += line.len();
        self.line += 1;
        Some((at, line))
    }

    fn instruction(&mut self, escape: char) -> Option<Instruction<'a>> {
        let mut instruction = Instruction::default();
        while let Some((at, line)) = self.next() {
            // Comments and empty lines do not end an instruction that is continued.
            if line.trim().is_empty() || line.trim_start().starts_with('#') {
                continue;
            }
            if instruction.words.is_empty() {
                instruction.line = self.line;
            }
            let trimmed = line.trim_end();
            let bare = trimmed.strip_suffix(escape);
            instruction.words.extend(words(bare.unwrap_or(trimmed), at));
            if bare.is_none() {
                break;
            }
        }
        (!instruction.words.is_empty()).then_some(instruction)
    }

    /// Here-documents: what stands between `<<EOF` and `EOF` is no instruction.
    fn skip_documents(&mut self, instruction: &Instruction<'_>) {
        let mut words = instruction.words.iter();
        let takes = |word: &Word<'_>| ["run", "copy", "add"].iter().any(|name| word.text.eq_ignore_ascii_case(name));
        if !words.any(takes) {
            return;
        }
        let ends = words.filter_map(|word| word.text.split_once("<<").map(|(_, end)| end));
        let ends = ends.map(|end| end.trim_start_matches('-').trim_matches(['"', '\'']));
        for end in
            ends.filter(|end| end.bytes().next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_'))
        {
            while let Some((_, line)) = self.next() {
                if line.trim() == end {
                    break;
                }
            }
        }
    }
}

fn words(line: &str, at: usize) -> impl Iterator<Item = Word<'_>> {
    let begin = line.as_ptr();
    line.split_ascii_whitespace().map(move |text| Word { text, at: at + (text.as_ptr().addr() - begin.addr()) })
}

/// `# syntax=docker/dockerfile:1` and ``# escape=` ``: comments before everything else.
fn directives(text: &str) -> (Vec<(usize, Word<'_>)>, char) {
    let (mut found, mut escape) = (Vec::new(), '\\');
    let mut lines = Lines { text, at: 0, line: 0 };
    while let Some((at, line)) = lines.next() {
        let Some(comment) = line.trim_start().strip_prefix('#') else { break };
        let Some((key, value)) = comment.split_once('=') else { break };
        match key.trim().to_ascii_lowercase().as_str() {
            "syntax" => {
                let value_at = at + (value.as_ptr().addr() - line.as_ptr().addr());
                found.extend(words(value, value_at).next().map(|word| (lines.line, word)));
            }
            "escape" if value.trim() == "`" => escape = '`',
            "escape" | "check" => {}
            _ => break,
        }
    }
    (found, escape)
}

/// The default of an `ARG`, and where it stands, if it is literal.
struct Default {
    value: String,
    at: Option<Range<usize>>,
}

#[derive(std::default::Default)]
struct Reading {
    read: Read,
    /// Those before the first `FROM`: the only ones that `FROM` knows.
    arguments: HashMap<String, Default>,
    /// In lower case; one without a name has an empty one.
    stages: Vec<String>,
}

impl Reading {
    fn instruction(&mut self, instruction: &Instruction<'_>) {
        let line = instruction.line;
        let mut words = instruction.words.as_slice();
        if let [first, rest @ ..] = words
            && first.text.eq_ignore_ascii_case("onbuild")
        {
            words = rest;
        }
        let [first, rest @ ..] = words else { return };
        match first.text.to_ascii_lowercase().as_str() {
            "arg" if self.stages.is_empty() => rest.iter().for_each(|word| self.argument(word)),
            "from" => self.from(line, rest),
            "copy" | "add" => {
                flags(rest).filter_map(|word| after(word, "--from=")).for_each(|word| self.stage(line, &word))
            }
            "run" => {
                for mount in flags(rest).filter_map(|word| after(word, "--mount=")) {
                    parts(&mount).filter_map(|part| after(&part, "from=")).for_each(|word| self.stage(line, &word));
                }
            }
            _ => {}
        }
    }

    fn argument(&mut self, word: &Word<'_>) {
        let Some((name, value)) = word.text.split_once('=') else { return };
        let bare = value.trim_matches(['"', '\'']);
        let at = word.at + (bare.as_ptr().addr() - word.text.as_ptr().addr());
        let literal = !bare.contains('$');
        let Some(value) = self.filled(bare) else { return };
        self.arguments.insert(name.to_owned(), Default { value, at: literal.then(|| at..at + bare.len()) });
    }

    /// `FROM [--platform=…] IMAGE [AS NAME]`
    fn from(&mut self, line: usize, words: &[Word<'_>]) {
        let words: Vec<_> = words.iter().skip_while(|word| word.text.starts_with("--")).collect();
        let Some(image) = words.first() else { return };
        let is_known = self.stages.contains(&image.text.to_ascii_lowercase());
        if !is_known && !image.text.eq_ignore_ascii_case("scratch") {
            self.name(line, image, "it is put together of variables");
        }
        let named = words.get(1).is_some_and(|word| word.text.eq_ignore_ascii_case("as"));
        let name = words.get(2).filter(|_| named).map(|word| word.text.to_ascii_lowercase());
        self.stages.push(name.unwrap_or_default());
    }

    /// A stage by its name or number, else an image.
    fn stage(&mut self, line: usize, word: &Word<'_>) {
        let is_stage = word.text.parse::<usize>().is_ok() || self.stages.contains(&word.text.to_ascii_lowercase());
        if !is_stage && !word.text.is_empty() {
            self.name(line, word, "it is put together of variables");
        }
    }

    fn name(&mut self, line: usize, word: &Word<'_>, why: &'static str) {
        let Some(text) = self.filled(word.text) else {
            return self.read.unread.push((line, word.text.to_owned(), "it has a variable without a default"));
        };
        if text.eq_ignore_ascii_case("scratch") {
            return;
        }
        if Name::read(&text).is_err() {
            return self.read.unread.push((line, word.text.to_owned(), "it is not the name of an image"));
        }
        let place = self.place(word).map_or(Place::Elsewhere(why), Place::Bytes);
        self.read.references.push(Reference { text, line, place });
    }

    /// Its own place, or that of the default of the one variable it is.
    fn place(&self, word: &Word<'_>) -> Option<Range<usize>> {
        if !word.text[..tail(word.text).start].contains('$') {
            return Some(word.range());
        }
        let variable = word.text.strip_prefix('$')?;
        let variable = variable.strip_prefix('{').and_then(|v| v.strip_suffix('}')).unwrap_or(variable);
        self.arguments.get(variable)?.at.clone()
    }

    /// `$X`, `${X}`, `${X:-y}`, `${X-y}` with what is known. `None`: something is not.
    fn filled(&self, text: &str) -> Option<String> {
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            filled.push_str(before);
            let (variable, behind) = match after.strip_prefix('{') {
                Some(braced) => braced.split_once('}')?,
                None => {
                    after.split_at(after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len()))
                }
            };
            let (name, default) = match variable.split_once('-') {
                Some((name, default)) => (name.trim_end_matches(':'), Some(default)),
                None => (variable, None),
            };
            filled.push_str(self.arguments.get(name).map(|known| known.value.as_str()).or(default)?);
            rest = behind;
        }
        filled.push_str(rest);
        Some(filled)
    }
}

fn flags<'a, 'b>(words: &'b [Word<'a>]) -> impl Iterator<Item = &'b Word<'a>> {
    words.iter().take_while(|word| word.text.starts_with("--"))
}

fn after<'a>(word: &Word<'a>, prefix: &str) -> Option<Word<'a>> {
    let text = word.text.strip_prefix(prefix)?;
    Some(Word { text, at: word.at + prefix.len() })
}

/// Those between commas.
fn parts<'a>(word: &Word<'a>) -> impl Iterator<Item = Word<'a>> {
    let (begin, at) = (word.text.as_ptr().addr(), word.at);
    word.text.split(',').map(move |text| Word { text, at: at + (text.as_ptr().addr() - begin) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FILE: &str = "\
# syntax=docker/dockerfile:1
# a comment
ARG GO=1.25
ARG BASE=gcr.io/distroless/static:nonroot TAG
FROM --platform=$BUILDPLATFORM golang:${GO}-alpine AS build
RUN --mount=type=cache,target=/x --mount=type=bind,from=quay.io/acme/tools:2,target=/t \\
    # FROM nothing
    go build <<EOF
FROM not/this
EOF
FROM build as test
COPY --from=build /a /a
COPY --link --from=0 /a /a
COPY --from=ghcr.io/acme/assets /a /a
FROM \\
  ${BASE}
FROM scratch
FROM x:$TAG
onbuild copy --from=busybox:1 /a /a
FROM ${ELSE:-debian}
";

    #[test]
    fn what_a_dockerfile_names() {
        assert!(is_one(FILE) && !is_one("from: x") && !is_one("apiVersion: v1") && !is_one(""));
        let read = read(FILE);
        let found: Vec<_> = read.references.iter().map(|r| (r.line, r.text.as_str())).collect();
        assert_eq!(
            found,
            [
                (1, "docker/dockerfile:1"),
                (5, "golang:1.25-alpine"),
                (6, "quay.io/acme/tools:2"),
                (14, "ghcr.io/acme/assets"),
                (15, "gcr.io/distroless/static:nonroot"),
                (19, "busybox:1"),
                (20, "debian"),
            ]
        );
        assert_eq!(read.unread, [(18, "x:$TAG".to_owned(), "it has a variable without a default")]);
        let place = |reference: &Reference| match &reference.place {
            Place::Bytes(at) => FILE[at.clone()].to_owned(),
            Place::Elsewhere(why) => format!("! {why}"),
        };
        assert_eq!(
            read.references.iter().map(place).collect::<Vec<_>>(),
            [
                "docker/dockerfile:1",
                "golang:${GO}-alpine",
                "quay.io/acme/tools:2",
                "ghcr.io/acme/assets",
                "gcr.io/distroless/static:nonroot",
                "busybox:1",
                "! it is put together of variables",
            ]
        );
    }

    #[test]
    fn another_escape() {
        let read =
            read("# escape=`\nFROM `\n  mcr.microsoft.com/windows/nanoserver:ltsc2025\nRUN dir C:\\\nFROM alpine\n");
        let found: Vec<_> = read.references.iter().map(|r| r.text.as_str()).collect();
        assert_eq!(found, ["mcr.microsoft.com/windows/nanoserver:ltsc2025", "alpine"]);
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "((FROM|ARG|RUN|COPY|ONBUILD|#) ?( |\\n|\\\\\\n|--from=|--mount=|a|:|\\$|\\$\\{|\\}|-|=|<<|,|é|\"){0,8}){0,6}|\\PC{0,30}") {
            for reference in read(&text).references {
                if let Place::Bytes(at) = reference.place {
                    prop_assert!(text.get(at).is_some());
                }
            }
        }
    }
}
