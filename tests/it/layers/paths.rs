//! The paths that code names: those of `use`, and those that stand where they are used.

use super::code::{Token, tokens};

pub(crate) type Path = Vec<String>;

/// One leaf of the tree of a `use`.
#[derive(Debug, PartialEq)]
pub(crate) struct Import {
    pub(crate) path: Path,
    /// What it is called here: `*` for all, `_` for a trait that needs no name.
    pub(crate) name: String,
    pub(crate) is_public: bool,
}

/// All that a file names.
pub(crate) struct Names {
    pub(crate) imports: Vec<Import>,
    /// Outside of `use`: paths of two words or more.
    pub(crate) paths: Vec<Path>,
    /// Outside of `use`: every word.
    pub(crate) words: Vec<String>,
}

pub(crate) fn names(code: &str) -> Names {
    let tokens = tokens(code);
    let token = |at: usize| tokens.get(at).map_or("", |(_, token)| *token);
    let mut names = Names { imports: Vec::new(), paths: Vec::new(), words: Vec::new() };
    let (mut at, mut is_public) = (0, false);
    while at < tokens.len() {
        match token(at) {
            // `pub(in a::b)` is no use of it.
            "pub" if token(at + 1) == "(" => {
                at = tokens[at..].iter().position(|(_, token)| *token == ")").map_or(tokens.len(), |n| at + n + 1);
                is_public = true;
            }
            "pub" => (at, is_public) = (at + 1, true),
            // A declaration is no use either.
            "mod" if token(at + 2) == ";" => (at, is_public) = (at + 3, false),
            // `impl Trait + use<'a>` captures.
            "use" if token(at + 1) != "<" => {
                at = tree(&tokens, at + 1, &[], is_public, &mut names.imports);
                is_public = false;
            }
            word if starts_word(word) => {
                let (path, behind) = path(&tokens, at);
                let is_outside = at > 0 && token(at - 1) == "::";
                names.words.extend(path.iter().cloned());
                if path.len() > 1 && !is_outside {
                    names.paths.push(path);
                }
                (at, is_public) = (behind, false);
            }
            _ => (at, is_public) = (at + 1, false),
        }
    }
    names
}

fn starts_word(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// The words that `::` joins from `at` on, and where they end.
fn path(tokens: &[Token<'_>], mut at: usize) -> (Path, usize) {
    let token = |at: usize| tokens.get(at).map_or("", |(_, token)| *token);
    let mut path = vec![token(at).to_owned()];
    at += 1;
    while token(at) == "::" && starts_word(token(at + 1)) {
        path.push(token(at + 1).to_owned());
        at += 2;
    }
    (path, at)
}

/// Reads one branch of a `use`, and returns where it ends.
fn tree(tokens: &[Token<'_>], mut at: usize, above: &[String], is_public: bool, into: &mut Vec<Import>) -> usize {
    let token = |at: usize| tokens.get(at).map_or("", |(_, token)| *token);
    let mut path = above.to_vec();
    loop {
        match token(at) {
            // A crate beside ours.
            "::" if path.is_empty() => path.push(String::new()),
            "::" => {}
            "{" => {
                at += 1;
                while !matches!(token(at), "}" | "") {
                    at = tree(tokens, at, &path, is_public, into);
                    at += usize::from(token(at) == ",");
                }
                return at + 1;
            }
            "self" if !path.is_empty() => {}
            word if word == "*" || starts_word(word) => path.push(word.to_owned()),
            _ => return at + 1,
        }
        at += 1;
        if token(at) == "as" {
            into.push(Import { name: token(at + 1).to_owned(), path, is_public });
            return at + 2;
        }
        if matches!(token(at), "," | "}" | ";" | "") {
            into.push(Import { name: path.last().cloned().unwrap_or_default(), path, is_public });
            return at;
        }
    }
}

#[test]
fn what_is_used_is_read_in_all_its_forms() {
    let read = |code: &str| {
        let names = names(code);
        let imports = names.imports.into_iter().map(|import| {
            let kind = if import.is_public { "pub " } else { "" };
            format!("{kind}{} as {}", import.path.join("::"), import.name)
        });
        (imports.collect::<Vec<_>>(), names.paths.iter().map(|path| path.join("::")).collect::<Vec<_>>())
    };
    let (imports, paths) = read(
        "use crate::fs;\nuse crate::{task::{self, Tasks, blocking as b}, http::*,\n  ca};\npub(in crate::x) use super::y as z;
         pub use a::B; use ::c::D as _; use e::{self as f,}; let a = crate::oci::x(); fn g(x: &self::Y, i: u8) -> Vec<h::I> {}
         <crate::k::L as m::N<'_>>::o(); $crate::p::q!(); r::<S>(); ::t::u(); impl V + use<'_> {}",
    );
    let expected = [
        "crate::fs as fs",
        "crate::task as task",
        "crate::task::Tasks as Tasks",
        "crate::task::blocking as b",
        "crate::http::* as *",
        "crate::ca as ca",
        "pub super::y as z",
        "pub a::B as B",
        "::c::D as _",
        "e as f",
    ];
    assert_eq!(imports, expected);
    assert_eq!(paths, ["crate::oci::x", "self::Y", "h::I", "crate::k::L", "m::N", "crate::p::q"]);
}
