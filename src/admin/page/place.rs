//! What the pages are read from, how a request for one came, and what is said on it.

use axum::extract::{FromRequestParts, Query};
use http::request::Parts;
use serde::Deserialize;

use super::frame::Frame;
use crate::admin::door::{self, Door, Peer, cause};
use crate::admin::jobs::Desk;
use crate::ledger::Ledger;
use crate::policy::operator::Way;

/// What they are read from. Clones share it.
#[derive(Clone)]
pub(in crate::admin) struct Pages {
    pub(in crate::admin) desk: Desk,
    pub(in crate::admin) ledger: Ledger,
    pub(in crate::admin) door: Door,
}

/// How a request for a page came.
pub(super) struct Place {
    /// The session that it shows.
    pub(super) session: Option<String>,
    /// Nobody is between, or TLS is.
    pub(super) is_safe: bool,
    pub(super) is_tls: bool,
    /// It surely comes from one of these pages.
    pub(super) is_own: bool,
}

impl<S: Send + Sync> FromRequestParts<S> for Place {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Place, Self::Rejection> {
        let (peer, headers) = (parts.extensions.get::<Peer>(), &parts.headers);
        Ok(Place {
            session: door::session(headers).map(str::to_owned),
            is_safe: door::way(peer, headers) != Way::Clear,
            is_tls: peer.is_some_and(|peer| peer.is_tls),
            is_own: cause(headers).is_own_page(),
        })
    }
}

impl Pages {
    pub(super) fn frame(&self, place: &Place, said: Option<&'static str>) -> Frame {
        self.frame_of("", place, said)
    }

    pub(super) fn frame_of(&self, here: &'static str, place: &Place, said: Option<&'static str>) -> Frame {
        let (token, now) = (self.door.keys.token.get(), self.door.clock.now());
        let signed_in = token.zip(place.session.as_deref()).filter(|(token, session)| token.is_session(session, now));
        let form = signed_in.map(|(token, session)| token.form_of(session));
        Frame { here, form, said, version: env!("CARGO_PKG_VERSION") }
    }

    /// Whether a form is of a page that this listener gave to who is signed in.
    pub(super) fn may(&self, place: &Place, form: &str) -> bool {
        let Some((token, session)) = self.door.keys.token.get().zip(place.session.as_deref()) else { return false };
        place.is_own
            && place.is_safe
            && token.is_session(session, self.door.clock.now())
            && token.is_form_of(session, form)
    }
}

/// What is said on the page that follows a form.
#[derive(Default, Deserialize)]
pub(super) struct Said {
    #[serde(default)]
    said: String,
}

impl Said {
    pub(super) fn words(&self) -> Option<&'static str> {
        Some(match self.said.as_str() {
            "wrong" => "This is not the token.",
            "clear" => {
                "That token came in the clear, and whoever is between may have it. Come over https://, and replace it."
            }
            "over" => "The session is over: sign in again.",
            "begun" => "Everything on disk is being hashed.",
            "out" => "Signed out.",
            _ => return None,
        })
    }
}

pub(super) type SaidIn = Query<Said>;
