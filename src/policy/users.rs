//! Users and their passwords: an htpasswd file whose hashes are all bcrypt, and what a client shows
//! of itself (RFC 7617).

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};

use bcrypt::HashParts;
use data_encoding::BASE64;
use zeroize::Zeroizing;

/// `htpasswd -B` makes cost 5 by default, and 17 at most.
const LOWEST_COST: u32 = 4;
/// At 14 a check takes a second of a core, and each step doubles it: whoever can connect could keep
/// a core busy with one guess.
const HIGHEST_COST: u32 = 14;

/// What a client shows: a user's name and a password.
pub struct Credential(Zeroizing<Vec<u8>>);

impl Credential {
    /// Reads `Basic …`. `None` if it is anything else.
    pub fn parse(value: &[u8]) -> Option<Credential> {
        let at = value.iter().position(|byte| *byte == b' ')?;
        let (scheme, rest) = value.split_at(at);
        if !scheme.eq_ignore_ascii_case(b"basic") {
            return None;
        }
        let decoded = Zeroizing::new(BASE64.decode(rest.trim_ascii()).ok()?);
        decoded.contains(&b':').then_some(Credential(decoded))
    }

    /// The name and the password: the first colon is between them.
    fn parts(&self) -> (&[u8], &[u8]) {
        let at = self.0.iter().position(|byte| *byte == b':').unwrap_or(self.0.len());
        (&self.0[..at], self.0.get(at + 1..).unwrap_or_default())
    }

    /// Both, as they were sent: to be hashed, never to be kept.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential")
    }
}

/// Everybody who has a password.
pub struct Users {
    /// Sorted by name.
    entries: Vec<Entry>,
    /// Keyed: no client knows which entry stands in for a name that is not there.
    choice: RandomState,
}

/// One of the users of a file, as long as the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(u32);

struct Entry {
    name: String,
    hash: Zeroizing<String>,
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Users({})", self.entries.len())
    }
}

/// What is wrong with a users file. Never shows a name or a hash.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UsersError {
    /// A line is no entry.
    #[error("line {line}: {what}")]
    Line {
        /// The line's number, from 1.
        line: usize,
        /// What is wrong with it, and what would not be.
        what: String,
    },
    /// No line at all.
    #[error("names no user; `htpasswd -B FILE USER` adds one")]
    Empty,
}

impl Users {
    /// Reads the text of an htpasswd file. Empty lines and those that begin with `#` say nothing.
    ///
    /// # Errors
    /// The first line that is wrong, or that there is no entry.
    pub fn parse(text: &str) -> Result<Users, UsersError> {
        let mut entries: Vec<(usize, Entry)> = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                let entry = entry(line).map_err(|what| UsersError::Line { line: at + 1, what })?;
                entries.push((at + 1, entry));
            }
        }
        if entries.is_empty() {
            return Err(UsersError::Empty);
        }
        entries.sort_by(|a, b| a.1.name.cmp(&b.1.name));
        if let Some(two) = entries.windows(2).find(|two| two[0].1.name == two[1].1.name) {
            let what = format!("this user is in line {} already", two[0].0);
            return Err(UsersError::Line { line: two[1].0, what });
        }
        let entries = entries.into_iter().map(|(_, entry)| entry).collect();
        Ok(Users { entries, choice: RandomState::new() })
    }

    /// Which of them this is, if it has the right password. Slow: milliseconds to a second of CPU,
    /// by the cost of the hash; as slow for a name that is not there.
    pub fn check(&self, credential: &Credential) -> Option<UserId> {
        let (name, password) = credential.parts();
        let found = self.entries.binary_search_by(|entry| entry.name.as_bytes().cmp(name));
        let entry = &self.entries[found.unwrap_or_else(|_| self.decoy(name))];
        let is_right = bcrypt::verify(password, &entry.hash).unwrap_or(false);
        found.ok().filter(|_| is_right).and_then(|at| u32::try_from(at).ok()).map(UserId)
    }

    /// The entry whose hash is worked on in vain for a name that is not there: always the same one
    /// for the same name, so that its time tells nothing, whatever the costs of the hashes are.
    fn decoy(&self, name: &[u8]) -> usize {
        let hash = self.choice.hash_one(name) % self.entries.len() as u64;
        usize::try_from(hash).unwrap_or_default()
    }
}

fn entry(line: &str) -> Result<Entry, String> {
    let Some((name, hash)) = line.split_once(':') else {
        return Err("not USER:HASH; `htpasswd -B FILE USER` writes such lines".to_owned());
    };
    if name.is_empty() || name.chars().any(char::is_control) {
        return Err("not a user's name before the colon".to_owned());
    }
    if let Some(other) = other_scheme(hash) {
        return Err(format!(
            "{other}, but only bcrypt is accepted: set the password again with `htpasswd -B FILE USER`"
        ));
    }
    let parts = hash.parse::<HashParts>().map_err(|_| {
        "a bcrypt hash that cannot be read (60 characters: $2y$, cost, salt, hash); `htpasswd -B FILE USER` writes one".to_owned()
    })?;
    if !(LOWEST_COST..=HIGHEST_COST).contains(&parts.get_cost()) {
        return Err(format!(
            "a bcrypt hash of cost {}, but valid is {LOWEST_COST} to {HIGHEST_COST}: `htpasswd -B -C 10 FILE USER`",
            parts.get_cost()
        ));
    }
    Ok(Entry { name: name.to_owned(), hash: Zeroizing::new(hash.to_owned()) })
}

/// What it is, if it is not bcrypt.
fn other_scheme(hash: &str) -> Option<&'static str> {
    // $2x$ is the hash of a library that had a bug (CVE-2011-2483).
    let known = [
        ("$2y$", None),
        ("$2a$", None),
        ("$2b$", None),
        ("$apr1$", Some("an MD5 hash")),
        ("$1$", Some("an MD5 hash")),
        ("{SHA}", Some("a SHA-1 hash")),
        ("{SSHA}", Some("a SHA-1 hash")),
        ("$5$", Some("a SHA-256 crypt hash")),
        ("$6$", Some("a SHA-512 crypt hash")),
        ("$y$", Some("a yescrypt hash")),
        ("$argon2", Some("an argon2 hash")),
    ];
    let found = known.iter().find(|(prefix, _)| hash.starts_with(prefix));
    found.map_or(Some("a crypt hash or a password in the clear"), |(_, other)| *other)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Of "abc", from the tests of jBCrypt, which others share.
    const ABC: &str = "$2a$06$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i";

    fn basic(text: &str) -> Credential {
        Credential::parse(format!("Basic {}", BASE64.encode(text.as_bytes())).as_bytes()).unwrap()
    }

    #[test]
    fn the_right_password_and_no_other() {
        let abc = |version: &str| ABC.replace("2a", version);
        let nothing = bcrypt::hash("", 4).unwrap();
        let text = format!("# ours\n\nabc:{}\r\n  b b:{}\nnobody:{nothing}\nü:{}\n", abc("2y"), abc("2b"), abc("2a"));
        let users = Users::parse(&text).unwrap();
        for (shown, right) in [
            ("abc:abc", true),
            ("b b:abc", true),
            ("ü:abc", true),
            ("nobody:", true),
            ("abc:abd", false),
            ("abc:", false),
            ("abc:abc:", false),
            ("Abc:abc", false),
            ("nobody:x", false),
            ("stranger:abc", false),
            ("stranger:", false),
            (":abc", false),
            (":", false),
        ] {
            assert_eq!(users.check(&basic(shown)).is_some(), right, "{shown}");
        }
    }

    /// Every name that is not there costs what one of those costs that are; the same one each time.
    #[test]
    fn a_name_that_is_not_there_is_checked_all_the_same() {
        let users = Users::parse(&format!("a:{ABC}\nb:{ABC}\nc:{ABC}")).unwrap();
        let chosen: Vec<usize> = (0..100).map(|n: u8| users.decoy(&[n])).collect();
        assert_eq!(chosen, (0..100).map(|n: u8| users.decoy(&[n])).collect::<Vec<_>>());
        assert!((0..3).all(|at| chosen.contains(&at)), "{chosen:?}");
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line_and_without_its_secret() {
        for (line, said) in [
            ("alice", "not USER:HASH; `htpasswd -B FILE USER` writes such lines"),
            (":x", "not a user's name before the colon"),
            ("a\u{7}:x", "not a user's name before the colon"),
            (
                "a:$apr1$salt$secret",
                "an MD5 hash, but only bcrypt is accepted: set the password again with `htpasswd -B FILE USER`",
            ),
            ("a:{SHA}secret=", "a SHA-1 hash, but only bcrypt"),
            ("a:$5$salt$secret", "a SHA-256 crypt hash, but only bcrypt"),
            ("a:$6$salt$secret", "a SHA-512 crypt hash, but only bcrypt"),
            ("a:secretabcdefg", "a crypt hash or a password in the clear, but only bcrypt"),
            ("a:", "a crypt hash or a password in the clear, but only bcrypt"),
            (&format!("a:{}", ABC.replace("2a", "2x")), "a crypt hash or a password in the clear, but only bcrypt"),
            ("a:$2y$05$secret", "a bcrypt hash that cannot be read"),
            (&format!("a:{ABC}:secret"), "a bcrypt hash that cannot be read"),
            (
                &format!("a:{}", ABC.replace("$06$", "$15$")),
                "a bcrypt hash of cost 15, but valid is 4 to 14: `htpasswd -B -C 10",
            ),
            (&format!("a:{}", ABC.replace("$06$", "$03$")), "a bcrypt hash of cost 3, but"),
            (&format!("ok:{ABC}"), "this user is in line 1 already"),
        ] {
            let error = Users::parse(&format!("ok:{ABC}\n#\n{line}\n")).unwrap_err().to_string();
            assert!(error.starts_with(&format!("line 3: {said}")), "{line}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
        for nobody in ["", "\n# alice\n\n"] {
            assert_eq!(Users::parse(nobody).unwrap_err(), UsersError::Empty);
        }
        let users = Users::parse(&format!("alice:{ABC}")).unwrap();
        assert_eq!(format!("{users:?} {:?}", basic("alice:abc")), "Users(1) Credential");
    }

    /// RFC 7617, 2: `Aladdin:open sesame`; the scheme's case does not matter, the rest does.
    #[test]
    fn what_clients_show() {
        for (value, parts) in [
            ("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", Some(("Aladdin", "open sesame"))),
            ("bASIC  QWxhZGRpbjpvcGVuIHNlc2FtZQ== ", Some(("Aladdin", "open sesame"))),
            ("Basic YTpiOmM=", Some(("a", "b:c"))),
            ("Basic Og==", Some(("", ""))),
            ("Basic YWI=", None),
            ("Basic YTpiOmM", None),
            ("Basic a:b", None),
            ("Basic", None),
            ("Basic ", None),
            ("Bearer QWxhZGRpbjpvcGVuIHNlc2FtZQ==", None),
            ("", None),
        ] {
            let credential = Credential::parse(value.as_bytes());
            let read = credential.as_ref().map(|credential| credential.parts());
            assert_eq!(read, parts.map(|(name, word)| (name.as_bytes(), word.as_bytes())), "{value}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_shown(bytes: Vec<u8>) {
            Credential::parse(&bytes);
        }

        #[test]
        fn what_was_encoded_is_read(name in "[^:]*", password: String) {
            let credential = basic(&format!("{name}:{password}"));
            prop_assert_eq!(credential.parts(), (name.as_bytes(), password.as_bytes()));
        }

        #[test]
        fn any_text_in_the_file(text in "([a-c#]|:|\\$2y\\$|\\$|[0-9]|\r?\n|.){0,80}") {
            let _ = Users::parse(&text);
        }
    }
}
