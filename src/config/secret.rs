//! Secrets, which are given as files.

use std::path::Path;

use zeroize::Zeroizing;

use super::problem::Fault;
use super::tree::Value;

/// The one line of a file; no file if its name is empty. What is in it is in no message.
pub(super) fn file(value: &Value) -> Result<Option<Zeroizing<String>>, Fault> {
    let path = value.text("the name of a file that holds the secret")?;
    if path.is_empty() {
        return Ok(None);
    }
    let bytes = Zeroizing::new(crate::fs::read(Path::new(path)).map_err(|error| value.fault(error))?);
    let text = std::str::from_utf8(&bytes).map_err(|_| value.fault(format!("{path} is not UTF-8")))?;
    let line = text.strip_suffix('\n').unwrap_or(text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() {
        return Err(value.fault(format!("{path} is empty")));
    }
    if line.contains(char::is_control) {
        return Err(value.fault(format!("{path} must be the secret alone, in one line")));
    }
    Ok(Some(Zeroizing::new(line.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tree::Kind;

    #[test]
    fn a_file_is_the_secret_and_the_end_of_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let read = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            crate::fs::create_new(&path, 0o600, bytes).unwrap();
            let value = Value { kind: Kind::Text(path.display().to_string()), ..Value::empty() };
            file(&value).map(|secret| secret.unwrap().to_string()).map_err(|fault| fault.of("k").to_string())
        };
        assert_eq!(read("a", b"pass word\n").unwrap(), "pass word");
        assert_eq!(read("b", b"pass\r\n").unwrap(), "pass");
        assert_eq!(read("c", "päss".as_bytes()).unwrap(), "päss");
        for (name, bytes, said) in [
            ("d", &b""[..], "is empty"),
            ("e", b"\n", "is empty"),
            ("f", b"secret\nsecret\n", "in one line"),
            ("g", b"secret\xff", "is not UTF-8"),
        ] {
            let error = read(name, bytes).unwrap_err();
            assert!(error.contains(said) && !error.contains("secret\\"), "{error}");
        }
        let none = Value { kind: Kind::Text(String::new()), ..Value::empty() };
        assert!(file(&none).unwrap().is_none());
    }
}
