//! The operator's token: who has it may change what is in this seawall. And sessions, which a person begins
//! with it.
//!
//! A session is `UNTIL.RANDOM.MAC`, the MAC by a key that is made of the token: nothing is kept of it, it lasts
//! over a restart, and ends with the token.

use std::fmt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use data_encoding::BASE64URL_NOPAD as BASE64;
use zeroize::Zeroizing;

use crate::fs;

/// Bytes of a token that is made here.
const LENGTH: usize = 32;
/// Characters that one needs at least: nobody guesses it then.
const LEAST: usize = 16;
/// Characters that it may have: a longer file is something else.
const MOST: usize = 4096;
/// How long a session lasts.
pub const SESSION: Duration = Duration::from_secs(12 * 3600);

/// The token.
pub struct Token {
    text: Zeroizing<String>,
    key: hmac::Key,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    /// That of the file, which is made where it is missing (mode 0600). Blocks.
    ///
    /// # Errors
    /// It can be neither read nor made, or is no token.
    pub fn load_or_create(path: &Path) -> Result<Token, String> {
        if !fs::exists(path) {
            let mut bytes = Zeroizing::new([0; LENGTH]);
            aws_lc_rs::rand::fill(bytes.as_mut_slice()).map_err(|_| "no random bytes are to be had".to_owned())?;
            let line = Zeroizing::new(format!("{}\n", BASE64.encode(bytes.as_slice())));
            fs::create_new(path, 0o600, line.as_bytes()).map_err(|error| error.to_string())?;
        }
        Token::read(path)
    }

    /// That of the file. Blocks.
    ///
    /// # Errors
    /// It cannot be read, or is no token.
    pub fn read(path: &Path) -> Result<Token, String> {
        let read = Zeroizing::new(fs::read_to_string(path).map_err(|error| error.to_string())?);
        let (text, shown) = (read.trim(), path.display());
        match text.len() {
            short if short < LEAST => Err(format!("{shown} has {short} characters: a token has {LEAST} at least")),
            MOST.. => Err(format!("{shown} is too long to be a token")),
            _ if !text.bytes().all(|b| b.is_ascii_graphic()) => {
                Err(format!("{shown} is no token: it has other characters than letters, digits and signs"))
            }
            _ => Ok(Token::of(text)),
        }
    }

    fn of(text: &str) -> Token {
        let key = hmac::Key::new(hmac::HMAC_SHA256, text.as_bytes());
        Token { text: Zeroizing::new(text.to_owned()), key }
    }

    /// As it is shown to a listener.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it is this. Takes the same time whatever is wrong.
    pub fn is(&self, shown: &str) -> bool {
        verify_slices_are_equal(self.text.as_bytes(), shown.as_bytes()).is_ok()
    }

    /// A session that begins now.
    pub fn begin_session(&self, now: SystemTime) -> Option<String> {
        let until = (now + SESSION).duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
        let mut random = [0; 16];
        aws_lc_rs::rand::fill(&mut random).ok()?;
        let begun = format!("{until}.{}", BASE64.encode(&random));
        let mac = self.mac("session", &begun);
        Some(format!("{begun}.{}", BASE64.encode(mac.as_ref())))
    }

    /// Whether it is one that lasts.
    pub fn is_session(&self, shown: &str, now: SystemTime) -> bool {
        let Some((begun, mac)) = shown.rsplit_once('.') else { return false };
        let Some(until) = begun.split_once('.').and_then(|(until, _)| until.parse().ok()) else { return false };
        let lasts = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(until)).is_some_and(|until| now < until);
        lasts && self.is_mac("session", begun, mac)
    }

    /// What stands in the forms of a session's pages: no other page knows it.
    pub fn form_of(&self, session: &str) -> String {
        BASE64.encode(self.mac("form", session).as_ref())
    }

    /// Whether it is what stands in a form of that session.
    pub fn is_form_of(&self, session: &str, shown: &str) -> bool {
        self.is_mac("form", session, shown)
    }

    fn mac(&self, purpose: &str, text: &str) -> hmac::Tag {
        hmac::sign(&self.key, format!("{purpose}\n{text}").as_bytes())
    }

    fn is_mac(&self, purpose: &str, text: &str, shown: &str) -> bool {
        let Ok(shown) = BASE64.decode(shown.as_bytes()) else { return false };
        hmac::verify(&self.key, format!("{purpose}\n{text}").as_bytes(), &shown).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    #[test]
    fn it_is_made_once_and_closed_to_others() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.token");
        let made = Token::load_or_create(&path).unwrap();
        assert!(made.as_str().len() >= 43 && fs::mode(&path).unwrap() & 0o777 == 0o600);
        let again = Token::load_or_create(&path).unwrap();
        assert!(again.is(made.as_str()) && !again.is("") && !again.is(&made.as_str()[1..]));
        assert_eq!(format!("{made:?}"), "Token");
    }

    #[test]
    fn what_is_no_token() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t");
        for (text, why) in [
            ("", "has 0 characters"),
            ("short\n", "has 5 characters"),
            ("sixteen letters or more", "other characters"),
            (&*"é".repeat(20), "other characters"),
            (&*"x".repeat(5000), "too long"),
        ] {
            fs::replace(&path, 0o600, text.as_bytes()).unwrap();
            let said = Token::read(&path).unwrap_err();
            assert!(said.contains(why) && (text.is_empty() || !said.contains(text.trim())), "{said}");
        }
        fs::replace(&path, 0o600, b"  of-an-operators-own\n").unwrap();
        assert!(Token::read(&path).unwrap().is("of-an-operators-own"));
    }

    #[test]
    fn sessions() {
        let (token, other) = (Token::of("one-that-is-long"), Token::of("another-one-here"));
        let session = token.begin_session(now()).unwrap();
        assert!(token.is_session(&session, now()) && !other.is_session(&session, now()));
        assert_ne!(session, token.begin_session(now()).unwrap());
        let end = now() + SESSION;
        assert!(token.is_session(&session, end - Duration::from_secs(1)) && !token.is_session(&session, end));
        let later = session.replacen("18", "19", 1);
        for wrong in
            [later.as_str(), "", ".", "..", "1.2.3", "999999999999999999999.a.b", &session[..session.len() - 1]]
        {
            assert!(!token.is_session(wrong, now()), "{wrong}");
        }
        let form = token.form_of(&session);
        assert!(token.is_form_of(&session, &form) && !token.is_form_of(&later, &form));
        assert!(!token.is_session(&format!("{}.{form}", session.rsplit_once('.').unwrap().0), now()));
    }
}
