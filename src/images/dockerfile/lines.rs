//! Lines of a Dockerfile: its directives, and instructions of several lines.

use std::ops::Range;

/// A run of characters without spaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word<'a> {
    pub(super) text: &'a str,
    pub(super) at: usize,
}

impl<'a> Word<'a> {
    pub(super) fn range(&self) -> Range<usize> {
        self.at..self.at + self.text.len()
    }

    /// What stands behind `prefix`.
    pub(super) fn after(&self, prefix: &str) -> Option<Word<'a>> {
        let text = self.text.strip_prefix(prefix)?;
        Some(Word { text, at: self.at + prefix.len() })
    }

    /// Without the quotes around it.
    pub(super) fn unquoted(&self) -> Word<'a> {
        let within = |quote: char| self.text.strip_prefix(quote)?.strip_suffix(quote);
        match within('"').or_else(|| within('\'')) {
            Some(text) => Word { text, at: self.at + 1 },
            None => self.clone(),
        }
    }

    /// Those between commas.
    pub(super) fn parts(&self) -> impl Iterator<Item = Word<'a>> {
        let (begin, at) = (self.text.as_ptr().addr(), self.at);
        self.text.split(',').map(move |text| Word { text, at: at + (text.as_ptr().addr() - begin) })
    }
}

/// The words of one, over all its lines.
#[derive(Debug, Default)]
pub(super) struct Instruction<'a> {
    /// From 1.
    pub(super) line: usize,
    words: Vec<Word<'a>>,
}

impl<'a> Instruction<'a> {
    /// Its name and what stands behind it; of `ONBUILD`, those of what it holds.
    pub(super) fn split(&self) -> Option<(&'a str, &[Word<'a>])> {
        let words = match self.words.as_slice() {
            [first, rest @ ..] if first.text.eq_ignore_ascii_case("onbuild") => rest,
            all => all,
        };
        words.split_first().map(|(first, rest)| (first.text, rest))
    }

    /// Its here-documents, as BuildKit finds them: unquoted words of RUN, COPY and ADD alone.
    fn documents(&self) -> Vec<Document> {
        let takes = |name: &str| ["run", "copy", "add"].iter().any(|known| name.eq_ignore_ascii_case(known));
        match self.split() {
            Some((name, words)) if takes(name) => {
                outside_quotes(words).filter_map(|word| document(word.text)).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// How a here-document ends.
#[derive(Debug, PartialEq)]
struct Document {
    end: String,
    /// Tabs may stand before its end: `<<-`.
    is_indented: bool,
}

impl Document {
    fn ends(&self, line: &str) -> bool {
        let line = line.trim_end_matches(['\r', '\n']);
        self.end == if self.is_indented { line.trim_start_matches('\t') } else { line }
    }
}

/// `^\d*<<-?[^<]+$`, of which quotes are taken off.
fn document(word: &str) -> Option<Document> {
    let rest = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
    let (rest, is_indented) = rest.strip_prefix('-').map_or((rest, false), |rest| (rest, true));
    let end = rest.replace(['"', '\''], "");
    (!end.is_empty() && !end.contains('<')).then_some(Document { end, is_indented })
}

/// Words that begin outside of quotes.
fn outside_quotes<'a, 'b>(words: &'b [Word<'a>]) -> impl Iterator<Item = &'b Word<'a>> {
    words
        .iter()
        .scan(None, |quote, word| {
            let before = *quote;
            *quote = quote_after(word.text, before);
            Some((word, before))
        })
        .filter_map(|(word, quote)| quote.is_none().then_some(word))
}

/// Which quote is open behind `text`, where `open` was open before it.
fn quote_after(text: &str, mut open: Option<char>) -> Option<char> {
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match (open, c) {
            (None | Some('"'), '\\') => drop(characters.next()),
            (None, '"' | '\'') => open = Some(c),
            (Some(quote), _) if quote == c => open = None,
            _ => {}
        }
    }
    open
}

/// Lines, and where each begins.
#[derive(Clone)]
pub(super) struct Lines<'a> {
    text: &'a str,
    at: usize,
    line: usize,
}

impl<'a> Lines<'a> {
    /// A byte order mark is not part of the first.
    pub(super) fn of(text: &'a str) -> Lines<'a> {
        Lines { text, at: text.len() - text.trim_start_matches('\u{feff}').len(), line: 0 }
    }

    fn next(&mut self) -> Option<(usize, &'a str)> {
        let rest = self.text.get(self.at..).filter(|rest| !rest.is_empty())?;
        let line = rest.split_inclusive('\n').next()?;
        let at = self.at;
        self.at += line.len();
        self.line += 1;
        Some((at, line))
    }

    /// The next one. Its here-documents are behind us.
    pub(super) fn instruction(&mut self, escape: char) -> Option<Instruction<'a>> {
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
        instruction.documents().iter().for_each(|document| self.skip(document));
        (!instruction.words.is_empty()).then_some(instruction)
    }

    /// What stands between `<<EOF` and `EOF` is no instruction. Without an `EOF`, it was no
    /// here-document.
    fn skip(&mut self, document: &Document) {
        let mut ahead = self.clone();
        while let Some((_, line)) = ahead.next() {
            if document.ends(line) {
                *self = ahead;
                return;
            }
        }
    }
}

fn words(line: &str, at: usize) -> impl Iterator<Item = Word<'_>> {
    let begin = line.as_ptr();
    line.split_ascii_whitespace().map(move |text| Word { text, at: at + (text.as_ptr().addr() - begin.addr()) })
}

/// `# syntax=docker/dockerfile:1` and ``# escape=` ``: comments before everything else. Lines and
/// images of the first, and the escape.
pub(super) fn directives(text: &str) -> (Vec<(usize, Word<'_>)>, char) {
    let (mut found, mut escape) = (Vec::new(), '\\');
    let mut lines = Lines::of(text);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn instructions(text: &str) -> Vec<String> {
        let mut lines = Lines::of(text);
        let next = || lines.instruction('\\');
        std::iter::from_fn(next).map(|it| it.split().unwrap().0.to_owned()).collect()
    }

    /// BuildKit's parser.go, heredocsFromLine.
    #[test]
    fn here_documents_and_what_looks_like_them() {
        for (run, is_one) in [
            ("RUN <<EOF", true),
            ("RUN cat 0<<-'EOF' >x", true),
            ("run --mount=type=tmpfs,target=/t <<\"EOF\"", true),
            ("ONBUILD COPY <<EOF /x", true),
            ("RUN echo 'it' \\\n  <<EOF", true),
            ("RUN echo \"std::cout<<EOF;\"", false),
            ("RUN echo \"a <<EOF b\"", false),
            ("RUN echo 'a <<EOF'", false),
            ("RUN echo $((1<<EOF))", false),
            ("RUN cat <<<EOF", false),
            ("LABEL a=<<EOF <<EOF", false),
            ("LABEL run <<EOF", false),
        ] {
            let found = instructions(&format!("FROM a\n{run}\nINNER\nEOF\nFROM b\n"));
            let documents = found.iter().all(|name| name != "INNER");
            assert_eq!((documents, found.last().map(String::as_str)), (is_one, Some("FROM")), "{run}: {found:?}");
        }
    }

    #[test]
    fn where_here_documents_end() {
        assert_eq!(instructions("RUN <<A <<B\nX\nA\nY\nB\nFROM b\n"), ["RUN", "FROM"]);
        assert_eq!(instructions("RUN <<EOF\n  EOF\nX\nEOF\nFROM b\n"), ["RUN", "FROM"], "indented by spaces");
        assert_eq!(instructions("RUN <<EOF\n\tEOF\nX\nEOF\nFROM b\n"), ["RUN", "FROM"], "by a tab");
        assert_eq!(instructions("RUN <<-EOF\nX\n\t\tEOF\r\nFROM b\n"), ["RUN", "FROM"]);
        assert_eq!(instructions("RUN <<NEVER\nFROM b\n"), ["RUN", "FROM"], "no end, no document");
    }
}
