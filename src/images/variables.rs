//! Variables of Dockerfiles and compose files: `$NAME`, `${NAME}`, `${NAME:-default}`,
//! `${NAME-default}`.
//!
//! What else they have (`:?`, `:+`, `#`, `%`, `/`, a variable within a default) is not filled in
//! here.

/// One in a text.
struct Variable<'a> {
    name: &'a str,
    default: Option<&'a str>,
    /// The default is for what is empty, too: `:-`.
    fills_empty: bool,
}

/// With the values that are `known`, else the defaults. `None`: there is neither, or it is another
/// form.
pub(super) fn filled<'k>(text: &str, known: impl Fn(&str) -> Option<&'k str>) -> Option<String> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, variable, behind)) = next(rest) {
        let Variable { name, default, fills_empty } = read(variable)?;
        let value = known(name).filter(|value| !(fills_empty && value.is_empty()));
        filled.push_str(before);
        filled.push_str(value.or(default)?);
        rest = behind;
    }
    filled.push_str(rest);
    Some(filled)
}

/// The name of the one that is all of it.
pub(super) fn whole(text: &str) -> Option<&str> {
    match next(text) {
        Some(("", variable, "")) => read(variable).map(|variable| variable.name),
        _ => None,
    }
}

/// The names of all in it, in whatever form, also within others.
pub(super) fn used(text: &str) -> impl Iterator<Item = &str> {
    text.split('$').skip(1).map(|after| {
        let after = after.trim_start_matches('{');
        &after[..after.find(|c| !is_of_name(c)).unwrap_or(after.len())]
    })
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// What stands before the first one, what is between its braces or is its name, and what is behind
/// it.
fn next(text: &str) -> Option<(&str, &str, &str)> {
    let (before, after) = text.split_once('$')?;
    let (variable, behind) = match after.strip_prefix('{') {
        // Without an end it is none that can be read.
        Some(braced) => braced.split_once('}').unwrap_or(("", "")),
        None => after.split_at(after.find(|c| !is_of_name(c)).unwrap_or(after.len())),
    };
    Some((before, variable, behind))
}

fn read(variable: &str) -> Option<Variable<'_>> {
    let (name, rest) = variable.split_at(variable.find(|c| !is_of_name(c)).unwrap_or(variable.len()));
    let (default, fills_empty) = match (rest.strip_prefix(":-"), rest.strip_prefix('-')) {
        (Some(default), _) => (Some(default), true),
        (None, Some(default)) => (Some(default), false),
        (None, None) if rest.is_empty() => (None, false),
        (None, None) => return None,
    };
    let is_plain = !name.is_empty() && !default.is_some_and(|default| default.contains('$'));
    is_plain.then_some(Variable { name, default, fills_empty })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_filled_in() {
        let known =
            |name: &str| [("A", "a"), ("E", ""), ("B_2", "b")].iter().find(|(n, _)| *n == name).map(|(_, v)| *v);
        for (text, expected) in [
            ("x", Some("x")),
            ("$A", Some("a")),
            ("x/${A}:$B_2-y", Some("x/a:b-y")),
            ("${A:-y}${A-y}", Some("aa")),
            ("${C:-y:1-2}", Some("y:1-2")),
            ("${C-y}/${C-}", Some("y/")),
            ("${E:-y}${E-y}", Some("y")),
            ("$C", None),
            ("${C}", None),
            ("${C:?message}", None),
            ("${C:?say-so}", None),
            ("${C:+x}", None),
            ("${A#x}", None),
            ("${C:-${A}}", None),
            ("${A", None),
            ("$", None),
            ("$$A", None),
            ("${}", None),
            ("${-x}", None),
        ] {
            assert_eq!(filled(text, known).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn which_are_used() {
        assert_eq!((whole("$A"), whole("${A}"), whole("${A:-x}")), (Some("A"), Some("A"), Some("A")));
        assert_eq!((whole("$A-"), whole("x$A"), whole("${A"), whole("a")), (None, None, None, None));
        assert_eq!(used("x${A:-$B}$C-${D%x").collect::<Vec<_>>(), ["A", "B", "C", "D"]);
    }
}
