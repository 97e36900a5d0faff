//! What becomes of a document of somebody else's when ours is laid over it, and when it is taken
//! out again.

use serde_json::{Map, Value};

/// `theirs` with `ours` over it: tables recursively; of lists ours come first, unless they are
/// there, and others stay; any other value is ours.
pub(super) fn merge(theirs: &Value, ours: &Value) -> Value {
    match (theirs, ours) {
        (Value::Object(theirs), Value::Object(ours)) => {
            let mut merged = theirs.clone();
            for (key, ours) in ours {
                let value = theirs.get(key).map_or_else(|| ours.clone(), |theirs| merge(theirs, ours));
                merged.insert(key.clone(), value);
            }
            Value::Object(merged)
        }
        (Value::Array(theirs), Value::Array(ours)) => {
            let new = ours.iter().filter(|item| !theirs.contains(item));
            Value::Array(new.chain(theirs).cloned().collect())
        }
        (_, ours) => ours.clone(),
    }
}

/// What is left of `current` without `ours`; `original` is what was there before. `None`: nothing.
/// The keys that somebody else has set again since then stay, and are named in `left`.
pub(super) fn take_out(
    current: &Value,
    ours: &Value,
    original: Option<&Value>,
    left: &mut Vec<String>,
) -> Option<Value> {
    taken_out("", current, ours, original, left)
}

fn taken_out(
    key: &str,
    current: &Value,
    ours: &Value,
    original: Option<&Value>,
    left: &mut Vec<String>,
) -> Option<Value> {
    let untouched = original.map_or_else(|| ours.clone(), |original| merge(original, ours));
    if *current == untouched {
        return original.cloned();
    }
    match (current, ours) {
        (Value::Object(current), Value::Object(ours)) => {
            let before = original.and_then(Value::as_object);
            let rest = table_without(key, current, ours, before, left);
            if rest.is_empty() && before.is_none() { original.cloned() } else { Some(Value::Object(rest)) }
        }
        (Value::Array(current), Value::Array(ours)) => {
            let before = original.and_then(Value::as_array);
            let is_ours = |item: &Value| ours.contains(item) && before.is_none_or(|before| !before.contains(item));
            let rest: Vec<Value> = current.iter().filter(|item| !is_ours(item)).cloned().collect();
            if rest.is_empty() && before.is_none() { original.cloned() } else { Some(Value::Array(rest)) }
        }
        _ => {
            left.push(key.to_owned());
            Some(current.clone())
        }
    }
}

fn table_without(
    key: &str,
    current: &Map<String, Value>,
    ours: &Map<String, Value>,
    original: Option<&Map<String, Value>>,
    left: &mut Vec<String>,
) -> Map<String, Value> {
    let mut rest = current.clone();
    for (name, ours) in ours {
        let Some(current) = current.get(name) else { continue };
        let before = original.and_then(|original| original.get(name));
        let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
        match taken_out(&key, current, ours, before, left) {
            Some(value) => rest.insert(name.clone(), value),
            None => rest.remove(name),
        };
    }
    rest
}

/// How one list becomes another.
#[derive(Debug, PartialEq)]
pub(super) enum ListEdit {
    /// So many of the new one come before the old one.
    Prepend(usize),
    /// These of the old one go, by their places, the last first.
    Remove(Vec<usize>),
    /// They have not much in common.
    Replace,
}

impl ListEdit {
    pub(super) fn between(from: &[Value], to: &[Value]) -> ListEdit {
        if to.ends_with(from) {
            return ListEdit::Prepend(to.len() - from.len());
        }
        let mut kept = to.iter().rev().peekable();
        let gone = (0..from.len()).rev().filter(|place| kept.next_if(|item| **item == from[*place]).is_none());
        let gone: Vec<usize> = gone.collect();
        if kept.peek().is_none() { ListEdit::Remove(gone) } else { ListEdit::Replace }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// Documents of which the parts often have names, and values, in common.
    pub(crate) fn table() -> impl Strategy<Value = Value> {
        let scalar = prop_oneof![
            any::<bool>().prop_map(Value::from),
            (-3i64..3).prop_map(Value::from),
            "[a-c# :\"'\\-]{0,4}".prop_map(Value::from),
        ];
        let value = scalar.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                vec(prop_oneof!["[a-c]".prop_map(Value::from), (-3i64..3).prop_map(Value::from)], 0..4)
                    .prop_map(Value::from),
                btree_map("[a-d]|x y|\\*", inner, 0..4).prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        });
        btree_map("[a-d]|x y|\\*", value, 0..5).prop_map(|map| Value::Object(map.into_iter().collect()))
    }

    fn keeps(merged: &Value, theirs: &Value, ours: Option<&Value>) -> bool {
        match (merged, theirs, ours) {
            (Value::Object(merged), Value::Object(theirs), ours @ (None | Some(Value::Object(_)))) => {
                theirs.iter().all(|(key, theirs)| {
                    merged.get(key).is_some_and(|merged| keeps(merged, theirs, ours.and_then(|ours| ours.get(key))))
                })
            }
            (Value::Array(merged), Value::Array(theirs), Some(Value::Array(_))) => {
                theirs.iter().all(|item| merged.contains(item))
            }
            (merged, theirs, None) => merged == theirs,
            (merged, _, Some(ours)) => merged == ours,
        }
    }

    proptest! {
        #[test]
        fn nothing_of_others_is_lost_and_twice_is_once(theirs in table(), ours in table()) {
            let merged = merge(&theirs, &ours);
            prop_assert!(keeps(&merged, &theirs, Some(&ours)));
            prop_assert_eq!(&merge(&merged, &ours), &merged);
            let mut left = Vec::new();
            prop_assert_eq!(take_out(&merged, &ours, Some(&theirs), &mut left), Some(theirs));
            prop_assert!(left.is_empty());
        }

        #[test]
        fn what_came_later_stays(theirs in table(), ours in table(), later in "[e-h]", value in table()) {
            let mut now = merge(&theirs, &ours);
            now[&later] = value.clone();
            let mut expected = theirs.clone();
            expected[&later] = value;
            let mut left = Vec::new();
            prop_assert_eq!(take_out(&now, &ours, Some(&theirs), &mut left), Some(expected));
            prop_assert!(left.is_empty());
        }
    }

    #[test]
    fn what_somebody_set_anew_stays_and_is_named() {
        let ours = json!({"proxies": {"https-proxy": "ours"}, "registry-mirrors": ["ours"]});
        let theirs = json!({"registry-mirrors": ["theirs"], "debug": true});
        let now = json!({"proxies": {"https-proxy": "another"}, "registry-mirrors": ["later", "ours", "theirs"], "debug": false});
        let mut left = Vec::new();
        let rest = take_out(&now, &ours, Some(&theirs), &mut left);
        let expected =
            json!({"proxies": {"https-proxy": "another"}, "registry-mirrors": ["later", "theirs"], "debug": false});
        assert_eq!((rest, left), (Some(expected), vec!["proxies.https-proxy".to_owned()]));
    }

    #[test]
    fn lists_become_others_in_small_steps() {
        let list = |text: &str| text.chars().map(|c| json!(c.to_string())).collect::<Vec<_>>();
        assert_eq!(ListEdit::between(&list("bc"), &list("abc")), ListEdit::Prepend(1));
        assert_eq!(ListEdit::between(&list("abc"), &list("c")), ListEdit::Remove(vec![1, 0]));
        assert_eq!(ListEdit::between(&list("abcb"), &list("ab")), ListEdit::Remove(vec![2, 1]));
        assert_eq!(ListEdit::between(&list("abc"), &list("ca")), ListEdit::Replace);
        assert_eq!(
            merge(&json!(["a", "b"]), &json!(["c", "b"])),
            json!(["c", "a", "b"]),
            "what is there stays in its place"
        );
    }
}
