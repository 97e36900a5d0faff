//! What a Dockerfile names: `FROM`, `COPY --from`, `RUN --mount=from=`, `# syntax=`
//! (docs.docker.com/reference/dockerfile).

mod lines;

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use lines::{Instruction, Lines, Word, directives};

use super::name::{Name, tail};
use super::reference::{Place, Read, Reference};
use super::variables::{filled, used, whole};

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
    directives.into_iter().for_each(|(line, word)| reading.name(line, &word));
    let mut lines = Lines::of(text);
    while let Some(instruction) = lines.instruction(escape) {
        reading.instruction(&instruction);
    }
    reading.read()
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
    /// Variables that are a part of something: their defaults must stay what they are.
    parts: HashSet<String>,
    /// References, by their number, that are a variable and nothing else.
    by_variable: Vec<(usize, String)>,
}

const TOGETHER: &str = "it is put together of variables";
const SHARED: &str = "the default of its variable is a part of other names";

impl Reading {
    fn instruction(&mut self, instruction: &Instruction<'_>) {
        let line = instruction.line;
        let Some((name, rest)) = instruction.split() else { return };
        match name.to_ascii_lowercase().as_str() {
            "arg" if self.stages.is_empty() => rest.iter().for_each(|word| self.argument(word)),
            "from" => self.from(line, rest),
            "copy" | "add" => {
                flags(rest).filter_map(|word| word.after("--from=")).for_each(|word| self.stage(line, &word))
            }
            "run" => {
                for mount in flags(rest).filter_map(|word| word.after("--mount=")) {
                    let parts = mount.unquoted();
                    let from = parts.parts().filter_map(|part| part.unquoted().after("from="));
                    from.for_each(|word| self.stage(line, &word));
                }
            }
            _ => {}
        }
    }

    fn argument(&mut self, word: &Word<'_>) {
        let Some((name, value)) = word.text.split_once('=') else { return };
        let at = word.at + (value.as_ptr().addr() - word.text.as_ptr().addr());
        let bare = Word { text: value, at }.unquoted();
        self.uses(bare.text);
        let at = (!bare.text.contains('$')).then(|| bare.range());
        match self.filled(bare.text) {
            Some(value) => drop(self.arguments.insert(name.to_owned(), Default { value, at })),
            None => drop(self.arguments.remove(name)),
        }
    }

    /// `FROM [--platform=…] IMAGE [AS NAME]`
    fn from(&mut self, line: usize, words: &[Word<'_>]) {
        flags(words).for_each(|flag| self.uses(flag.text));
        let words: Vec<_> = words.iter().skip_while(|word| word.text.starts_with("--")).collect();
        let Some(image) = words.first().map(|word| word.unquoted()) else { return };
        let is_known = self.stages.contains(&image.text.to_ascii_lowercase());
        if !is_known && !image.text.eq_ignore_ascii_case("scratch") {
            self.name(line, &image);
        }
        let named = words.get(1).is_some_and(|word| word.text.eq_ignore_ascii_case("as"));
        let name = words.get(2).filter(|_| named).map(|word| word.text.to_ascii_lowercase());
        self.stages.push(name.unwrap_or_default());
    }

    /// A stage by its name or number, else an image.
    fn stage(&mut self, line: usize, word: &Word<'_>) {
        let word = word.unquoted();
        let is_stage = word.text.parse::<usize>().is_ok() || self.stages.contains(&word.text.to_ascii_lowercase());
        if !is_stage && !word.text.is_empty() {
            self.name(line, &word);
        }
    }

    fn name(&mut self, line: usize, word: &Word<'_>) {
        self.uses(word.text);
        let Some(text) = self.filled(word.text) else {
            return self.read.unread.push((line, word.text.to_owned(), "it has a variable without a default"));
        };
        if text.eq_ignore_ascii_case("scratch") {
            return;
        }
        if Name::read(&text).is_err() {
            return self.read.unread.push((line, word.text.to_owned(), "it is not the name of an image"));
        }
        let place = self.place(word, &text).map_or(Place::Elsewhere(TOGETHER), Place::Bytes);
        self.read.references.push(Reference { text, line, place, is_repeated: false });
    }

    /// Its own place, or that of the default of the one variable it is.
    fn place(&mut self, word: &Word<'_>, filled: &str) -> Option<Range<usize>> {
        if !word.text[..tail(word.text).start].contains('$') {
            return Some(word.range());
        }
        let variable = whole(word.text)?;
        let at = self.arguments.get(variable).filter(|known| known.value == filled)?.at.clone();
        self.by_variable.push((self.read.references.len(), variable.to_owned()));
        at
    }

    /// A variable that is all of a word may be any name; one that is a part of it, not.
    fn uses(&mut self, text: &str) {
        if whole(text).is_none() {
            self.parts.extend(used(text).map(str::to_owned));
        }
    }

    fn filled(&self, text: &str) -> Option<String> {
        filled(text, |name| self.arguments.get(name).map(|known| known.value.as_str()))
    }

    fn read(mut self) -> Read {
        for (number, variable) in self.by_variable {
            if self.parts.contains(&variable)
                && let Some(reference) = self.read.references.get_mut(number)
            {
                reference.place = Place::Elsewhere(SHARED);
            }
        }
        self.read
    }
}

fn flags<'a, 'b>(words: &'b [Word<'a>]) -> impl Iterator<Item = &'b Word<'a>> {
    words.iter().take_while(|word| word.text.starts_with("--"))
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

    fn named(text: &str) -> Vec<String> {
        read(text).references.into_iter().map(|reference| reference.text).collect()
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_an_image() {
        assert_eq!(named("\u{feff}FROM alpine:3\nFROM busybox\n"), ["alpine:3", "busybox"]);
        assert_eq!(named("\u{feff}# syntax=docker/dockerfile:1\nFROM alpine\n"), ["docker/dockerfile:1", "alpine"]);
    }

    #[test]
    fn quotes_are_no_part_of_an_image() {
        assert_eq!(named("FROM \"alpine:3\"\nFROM 'a/b'\n"), ["alpine:3", "a/b"]);
        assert_eq!(named("FROM scratch\nRUN --mount=type=bind,\"from=b:1\",target=/x true\n"), ["b:1"]);
    }

    /// A default is only rewritten where all that use it are whole names.
    #[test]
    fn a_default_that_is_a_part_of_another_name_stays() {
        let places = |text: &str| {
            let read = read(text);
            let shared = |reference: &Reference| reference.place == Place::Elsewhere(SHARED);
            read.references.iter().map(shared).collect::<Vec<_>>()
        };
        for other in
            ["FROM golang:1-$X", "FROM x/$X", "FROM $X-slim:1", "FROM --platform=$X b", "COPY --from=a/${X} / /"]
        {
            assert!(places(&format!("ARG X=alpine\nFROM $X\n{other}\n"))[0], "{other}");
        }
        assert!(places("ARG X=alpine\nARG Y=$X:3\nFROM ${X}\n")[0]);
        assert!(!places("ARG X=alpine\nARG Y=$X\nFROM ${X}\nFROM $X AS b\nRUN echo a$X\n")[0]);
    }

    #[test]
    fn other_forms_of_variables_are_said() {
        let read = read("FROM ${A:?message}\nFROM ${A:+x}\n");
        assert_eq!((read.references.len(), read.unread.len()), (0, 2));
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
