//! A request as the gateway reads it: a token of seawall's own is taken out of it, and its owner is
//! carried beside it.

use std::time::SystemTime;

use http::{HeaderMap, HeaderValue, Request, header};

use crate::access::own_token::{self, Owner};
use crate::access::secret::Secret;
use crate::error::{Error, Kind, Result};
use crate::http::headers::mark_sensitive;
use crate::upstream::requester::{Keyring, Requester};

/// Empty name and password in HTTP Basic: what podman presents to a registry that wants Basic when
/// it has no login for it.
const EMPTY_LOGIN: &str = "Og==";

/// A client's request, and the owner of the token of seawall's own that came with it.
pub(crate) struct GatewayRequest<B> {
    /// The request without that token.
    pub(crate) http: Request<B>,
    owner: Option<Owner>,
}

/// Whether a request came with a credential or with a token of seawall's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presented {
    /// With neither: its client may not have been asked for one.
    Nothing,
    /// With one of them.
    Something,
}

impl<B> GatewayRequest<B> {
    /// Takes a token of seawall's own out of `http`; no registry sees one.
    pub(crate) fn read(mut http: Request<B>, secret: &Secret, now: SystemTime) -> GatewayRequest<B> {
        let owner = take_own_token(http.headers_mut(), secret, now);
        mark_sensitive(http.headers_mut());
        GatewayRequest { http, owner }
    }

    /// The client, by the credential it sent or by the login that its token represents.
    ///
    /// # Errors
    /// Two credentials were sent.
    pub(crate) fn requester(&self, keyring: &Keyring, now: SystemTime) -> Result<Requester> {
        let requester = requester(self.http.headers(), keyring, now)?;
        Ok(match self.owner {
            Some(Owner::Login(id)) => requester.representing(id),
            Some(Owner::Anonymous) | None => requester,
        })
    }

    /// What `requester`, the client of this request, presented.
    pub(crate) fn presented(&self, requester: &Requester) -> Presented {
        match (&requester.authorization, self.owner) {
            (None, None) => Presented::Nothing,
            _ => Presented::Something,
        }
    }
}

/// The client that sent these headers, by its credential alone.
///
/// # Errors
/// Two credentials were sent.
pub(crate) fn requester(headers: &HeaderMap, keyring: &Keyring, now: SystemTime) -> Result<Requester> {
    let mut lines = headers.get_all(header::AUTHORIZATION).iter();
    let first = lines.next();
    if lines.next().is_some() {
        return Err(Error::new(Kind::Request, "more than one Authorization"));
    }
    Ok(keyring.requester(first, now).through(headers))
}

/// Takes a token of seawall's own out of `headers`, if it is the only credential there, and returns
/// its owner.
fn take_own_token(headers: &mut HeaderMap, secret: &Secret, now: SystemTime) -> Option<Owner> {
    let read = |value: &HeaderValue| {
        let (scheme, shown) = value.to_str().unwrap_or_default().split_once(' ').unwrap_or_default();
        let shown = shown.trim();
        if scheme.eq_ignore_ascii_case("bearer") && own_token::is_own(shown) {
            return Some(own_token::owner(secret, shown, now));
        }
        (scheme.eq_ignore_ascii_case("basic") && shown == EMPTY_LOGIN).then_some(Owner::Anonymous)
    };
    let mut shown = headers.get_all(header::AUTHORIZATION).iter();
    let (first, second) = (shown.next().and_then(read), shown.next());
    let owner = first.filter(|_| second.is_none())?;
    headers.remove(header::AUTHORIZATION);
    Some(owner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::requester::LoginId;

    #[test]
    fn a_token_of_our_own_is_taken_and_other_credentials_stay() {
        let (secret, now) = (Secret::random(), SystemTime::UNIX_EPOCH);
        let alice = Owner::Login(LoginId([7; 24]));
        let token = own_token::issue(&secret, alice, now);
        let bearer = format!("bEARER  {token} ");
        let twice = [bearer.as_str(), "Bearer a"];
        let late = now + std::time::Duration::from_secs(3600);
        for (shown, now, left, owner) in [
            (&[bearer.as_str()][..], now, 0, Some(alice)),
            (&[bearer.as_str()], late, 0, Some(Owner::Anonymous)),
            (&["Bearer seawall.forged"], now, 0, Some(Owner::Anonymous)),
            (&["basic Og=="], now, 0, Some(Owner::Anonymous)),
            (&["Bearer Og=="], now, 1, None),
            (&["Basic dTpw"], now, 1, None),
            (&["Bearer a"], now, 1, None),
            (&twice, now, 2, None),
            (&[], now, 0, None),
        ] {
            let mut headers = HeaderMap::new();
            for value in shown {
                headers.append(header::AUTHORIZATION, HeaderValue::try_from(*value).unwrap());
            }
            assert_eq!(take_own_token(&mut headers, &secret, now), owner, "{shown:?}");
            assert_eq!(headers.get_all(header::AUTHORIZATION).iter().count(), left, "{shown:?}");
        }
    }

    /// A client that presents a token of ours was asked to log in already: to ask it again would
    /// send it round for ever.
    #[test]
    fn a_token_of_ours_is_something() {
        let (keyring, now) = (Keyring::new(), SystemTime::UNIX_EPOCH);
        let presented = |value: Option<&'static str>, owner| {
            let request = GatewayRequest { http: Request::new(()), owner };
            request.presented(&keyring.requester(value.map(HeaderValue::from_static).as_ref(), now))
        };
        assert_eq!(presented(None, None), Presented::Nothing);
        assert_eq!(presented(Some("Bearer a"), None), Presented::Something);
        assert_eq!(presented(None, Some(Owner::Anonymous)), Presented::Something);
    }
}
