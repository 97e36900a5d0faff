//! Tokens of seawall's own making: for whom, until when, signed.
//!
//! ```text
//! seawall.<base64url of: 1 byte version, 8 bytes end (seconds since 1970), 24 bytes login or zeros, 32 bytes HMAC-SHA256 of those>
//! ```
//!
//! Whoever has one has what it represents, and no more: anonymous, or a login that was proved
//! before the outage (`access/logins`). A login is one of one registry, and opens what that granted
//! it, so neither is said here; nor is what the client asked the token for, since who gets it could
//! ask for the rest. None ever leaves, good or not: what looks like one is taken out of a request
//! before anything else is done with it. Upstream, once it answers, is asked as anonymous, and the
//! client gets its challenge.

use std::time::{Duration, SystemTime};

use data_encoding::BASE64URL_NOPAD;

use super::secret::Secret;
use crate::records::{seconds, time};
use crate::upstream::auth::SHORTEST_LIFE;
use crate::upstream::requester::LoginId;

const MARK: &str = "seawall.";
const VERSION: u8 = 2;
/// Bytes that are signed.
const SIGNED: usize = 1 + 8 + 24;

/// The lifetime that a client sees: the shortest that clients accept. The token service may be back
/// soon.
pub(crate) const LIFE: Duration = SHORTEST_LIFE;
/// How much longer one is good: for what was under way when it ended, and for clients whose clock
/// starts late.
const GRACE: Duration = Duration::from_secs(60);

/// For whom a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Anonymous: it opens what is public.
    Anonymous,
    /// Somebody who showed a login that was good.
    Login(LoginId),
}

/// A new one.
pub(crate) fn issue(secret: &Secret, owner: Owner, now: SystemTime) -> String {
    let mut bytes = vec![VERSION];
    bytes.extend(seconds(now + LIFE + GRACE).to_be_bytes());
    bytes.extend(match owner {
        Owner::Anonymous => [0; 24],
        Owner::Login(id) => id.0,
    });
    let signature = secret.signature(&bytes);
    bytes.extend(signature);
    format!("{MARK}{}", BASE64URL_NOPAD.encode(&bytes))
}

/// Whether a bearer token is, or pretends to be, one of these.
pub(crate) fn is_own(token: &str) -> bool {
    token.starts_with(MARK)
}

/// Whom it represents. One that is forged or expired represents anonymous.
pub(crate) fn owner(secret: &Secret, token: &str, now: SystemTime) -> Owner {
    read(secret, token, now).unwrap_or(Owner::Anonymous)
}

fn read(secret: &Secret, token: &str, now: SystemTime) -> Option<Owner> {
    let bytes = BASE64URL_NOPAD.decode(token.strip_prefix(MARK)?.as_bytes()).ok()?;
    let (signed, signature) = bytes.split_at_checked(SIGNED)?;
    if !secret.is_signature(signed, signature) {
        return None;
    }
    let (version, rest) = signed.split_first()?;
    let (end, login) = rest.split_first_chunk::<8>()?;
    let (login, _) = login.split_first_chunk::<24>()?;
    // The end is near, or the clock was wrong when it was signed.
    let left = time(u64::from_be_bytes(*end)).duration_since(now).ok()?;
    if *version != VERSION || left.is_zero() || left > LIFE + GRACE {
        return None;
    }
    Some(if *login == [0; 24] { Owner::Anonymous } else { Owner::Login(LoginId(*login)) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_is_good_for_its_time_and_here_alone() {
        let (secret, now) = (Secret::random(), time(1_000_000));
        let alice = Owner::Login(LoginId([7; 24]));
        let token = issue(&secret, alice, now);
        assert!(is_own(&token) && token.bytes().all(|b| b.is_ascii_graphic()) && token.len() < 100, "{token}");
        assert_eq!(owner(&secret, &token, now), alice);
        assert_eq!(owner(&secret, &token, now + Duration::from_secs(119)), alice);
        assert_eq!(owner(&secret, &token, now + Duration::from_secs(120)), Owner::Anonymous);
        assert_eq!(owner(&secret, &token, now - Duration::from_secs(3600)), Owner::Anonymous, "from the future");
        assert_eq!(owner(&Secret::random(), &token, now), Owner::Anonymous);
        assert_eq!(read(&secret, &issue(&secret, Owner::Anonymous, now), now), Some(Owner::Anonymous));
    }

    proptest! {
        #[test]
        fn one_that_was_changed_is_nobodys(at in 0_usize..84, with in "[A-Za-z0-9_-]") {
            let (secret, now) = (Secret::random(), time(1_000_000));
            let token = issue(&secret, Owner::Login(LoginId([7; 24])), now);
            let mut changed = token.clone();
            changed.replace_range(at..=at, &with);
            prop_assert!(changed == token || owner(&secret, &changed, now) == Owner::Anonymous);
        }

        #[test]
        fn any_text(text: String) {
            let secret = Secret::random();
            prop_assert_eq!(owner(&secret, &text, time(0)), Owner::Anonymous);
            prop_assert_eq!(owner(&secret, &format!("{MARK}{text}"), time(0)), Owner::Anonymous);
        }
    }
}
