//! The code of a file: without comments, without what is in strings, without what only tests
//! compile.

/// What a file says to the compiler outside of tests.
pub(crate) struct Code {
    pub(crate) text: String,
    /// Names of its modules that only tests compile: their files are test code.
    pub(crate) test_modules: Vec<String>,
}

/// A word or a piece of punctuation, and where it begins. `::` is one.
pub(crate) type Token<'a> = (usize, &'a str);

pub(crate) fn code(text: &str) -> Code {
    without_tests(&without_comments(text))
}

/// Comments are left out, strings are empty, a character is a blank. Lines stay.
fn without_comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let in_word = out.ends_with(is_word);
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(length) = (!in_word).then(|| raw_string(rest)).flatten() {
            out.push_str("\"\"");
            length
        } else if c == '"' {
            out.push_str("\"\"");
            quoted(rest, '"')
        } else if let Some(length) = character(rest) {
            out.push_str("' '");
            length
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        };
        out.extend(rest[..length].matches('\n'));
        rest = &rest[length..];
    }
    out
}

/// Comments nest.
fn block_comment(text: &str) -> usize {
    let (mut at, mut depth) = (2, 1);
    while depth > 0 {
        let Some(next) = text[at..].find(['*', '/']) else { return text.len() };
        at += next;
        match &text[at..] {
            rest if rest.starts_with("/*") => (at, depth) = (at + 2, depth + 1),
            rest if rest.starts_with("*/") => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
    }
    at
}

/// `r"…"`, `r#"…"#`, `br"…"`, `cr"…"`.
fn raw_string(text: &str) -> Option<usize> {
    let body = text.strip_prefix(['b', 'c']).unwrap_or(text).strip_prefix('r')?;
    let hashes = body.len() - body.trim_start_matches('#').len();
    let inside = body[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let begins = text.len() - inside.len();
    Some(inside.find(&end).map_or(text.len(), |at| begins + at + end.len()))
}

fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = true; // the first quote is not the last
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// `'a'` and `'\n'`, not `'a`.
fn character(text: &str) -> Option<usize> {
    let mut chars = text.strip_prefix('\'')?.chars();
    match (chars.next()?, chars.next()?) {
        ('\\', _) => Some(quoted(text, '\'')),
        (c, '\'') => Some(c.len_utf8() + 2),
        _ => None,
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

pub(crate) fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let rest = &text[at..];
        let length = match c {
            _ if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            ':' if rest.starts_with("::") => 2,
            _ => c.len_utf8(),
        };
        if !c.is_whitespace() {
            tokens.push((at, &rest[..length]));
        }
        at += length;
    }
    tokens
}

/// Leaves out each item that `#[cfg(test)]` is on, and goes on behind it.
fn without_tests(text: &str) -> Code {
    let tokens = tokens(text);
    let is_marked = |at: usize| {
        let marked = tokens[at..].iter().map(|(_, token)| *token);
        marked.take(7).eq(["#", "[", "cfg", "(", "test", ")", "]"])
    };
    let mut code = Code { text: String::with_capacity(text.len()), test_modules: Vec::new() };
    let (mut at, mut kept_from) = (0, 0);
    while at < tokens.len() {
        if !is_marked(at) {
            at += 1;
            continue;
        }
        code.text.push_str(&text[kept_from..tokens[at].0]);
        let end = end_of_item(&tokens, at);
        let words: Vec<&str> = tokens[at..end].iter().map(|(_, token)| *token).collect();
        if let [.., "mod", name, ";"] = words[..] {
            code.test_modules.push(name.to_owned());
        }
        kept_from = tokens.get(end).map_or(text.len(), |(at, _)| *at);
        at = end;
    }
    code.text.push_str(&text[kept_from..]);
    code
}

/// Behind the item, statement, field or arm that begins at `at` with its attributes.
fn end_of_item(tokens: &[Token<'_>], mut at: usize) -> usize {
    let token = |at: usize| tokens.get(at).map_or("", |(_, token)| *token);
    while token(at) == "#" {
        at = behind_brackets(tokens, at + 1);
    }
    if token(at) == "pub" {
        at = if token(at + 1) == "(" { behind_brackets(tokens, at + 1) } else { at + 1 };
    }
    let is_function = matches!(token(at + 1), "fn" | "unsafe" | "async" | "extern");
    let (ends_with_block, ends_with_comma) = match token(at) {
        "use" | "type" | "static" | "let" => (false, false),
        "const" => (is_function, false),
        "mod" | "fn" | "struct" | "enum" | "union" | "trait" | "impl" | "macro_rules" | "async" | "unsafe"
        | "extern" | "{" | "if" | "for" | "while" | "loop" | "match" => (true, false),
        _ => (false, true),
    };
    while at < tokens.len() {
        match token(at) {
            "{" if ends_with_block => return behind_brackets(tokens, at),
            "(" | "[" | "{" => at = behind_brackets(tokens, at),
            ";" => return at + 1,
            "," if ends_with_comma => return at + 1,
            ")" | "]" | "}" => return at,
            _ => at += 1,
        }
    }
    at
}

/// Behind what the bracket at `at` is closed by.
fn behind_brackets(tokens: &[Token<'_>], at: usize) -> usize {
    let mut depth = 0;
    for (n, (_, token)) in tokens.iter().enumerate().skip(at) {
        match *token {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return n + 1;
        }
    }
    tokens.len()
}

#[test]
fn comments_and_strings_are_no_code() {
    let text = r##"a(r#"x " // no"#, "\"//", b"}", '"', '\'', 'x', br"\"); // c "
/* one /* two */ " */ fn b<'a>(r: &'a str) { var"s" } /* and"##;
    let expected = "a(\"\", \"\", b\"\", ' ', ' ', ' ', \"\"); \n fn b<'a>(r: &'a str) { var\"\" } ";
    assert_eq!(without_comments(text), expected);
    assert_eq!(without_comments("\"a\nb\" /* c\n */ d"), "\"\"\n \n d", "lines stay");
}

/// `#[cfg(test)]` in the middle of a file once hid all that followed it.
#[test]
fn what_tests_alone_compile_is_left_out_and_nothing_behind_it() {
    for (item, modules) in [
        ("use a::{b, c};", &[][..]),
        ("mod tests { fn f() { g(\"}\") } }", &[]),
        ("pub(crate) mod tests { struct S; }", &[]),
        ("mod tests;", &["tests"]),
        ("#[path = \"x.rs\"] mod example;", &["example"]),
        ("impl From<u32> for Id { fn from(n: u32) -> Id { Id(n) } }", &[]),
        ("#[must_use] pub(crate) fn f(a: [u8; 3]) -> S { S { a } }", &[]),
        ("const fn f() -> u8 { 1 }", &[]),
        ("const C: S = S { a: 1 };", &[]),
        ("struct S(u8);", &[]),
        ("let a = S { a: '}' };", &[]),
        ("{ a(); }", &[]),
    ] {
        let code = code(&format!("use x::y;\n#[cfg(test)]\n{item}\nfn after() {{}}"));
        let words: Vec<_> = code.text.split_whitespace().collect();
        assert_eq!(words, ["use", "x::y;", "fn", "after()", "{}"], "{item}");
        assert_eq!(code.test_modules, modules, "{item}");
    }
    assert_eq!(code("S { a, #[cfg(test)] b: [1, 2], c }").text, "S { a, c }");
    assert_eq!(code("S { a, #[cfg(test)] b: f(1, 2) }").text, "S { a, }");
    assert_eq!(code("a();\n#[cfg(test)]\nmod tests {").text, "a();\n");
}
