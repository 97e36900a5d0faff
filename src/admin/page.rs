//! The operator's pages: what is wrong, what is here, what comes, whom it comes from. They are whole without
//! scripts; htmx, where it runs, looks again now and then.

mod assets;
mod frame;
mod line;
mod overview;
mod session;
mod upstreams;
mod words;

use axum::extract::{FromRef, FromRequestParts, Query, State};
use axum::middleware;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Form, Router};
use http::request::Parts;

use super::door::{self, Door, Peer, cause};
use super::jobs::Desk;
use crate::ledger::Ledger;
use crate::operate::verify;
use crate::policy::operator::Way;
use frame::{Frame, see};
use session::{Button, Said};

/// What they are read from. Clones share it.
#[derive(Clone)]
pub(super) struct Pages {
    pub(super) desk: Desk,
    pub(super) ledger: Ledger,
    pub(super) door: Door,
}

/// How a request for a page came.
pub(super) struct Place {
    /// The session that it shows.
    session: Option<String>,
    /// Nobody is between, or TLS is.
    is_safe: bool,
    is_tls: bool,
    /// It surely comes from one of these pages.
    is_own: bool,
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

/// The pages, and what their forms do.
pub(super) fn router<S>(door: &Door) -> Router<S>
where
    Pages: FromRef<S>,
    S: Clone + Send + Sync + 'static,
{
    let shown = Router::new()
        .route("/", get(overview::overview))
        .route("/live", get(overview::live))
        .route("/upstreams", get(upstreams::upstreams))
        .route_layer(middleware::from_fn_with_state(door.clone(), door::look_at_page));
    Router::new()
        .route("/login", get(session::login))
        .route("/ui/login", post(session::sign_in))
        .route("/ui/logout", post(session::sign_out))
        .route("/ui/verify", post(verified))
        .route("/ui/style.css", get(assets::style))
        .route("/ui/icon.svg", get(assets::icon))
        .route("/ui/htmx.js", get(assets::htmx))
        .merge(shown)
}

async fn verified(State(pages): State<Pages>, place: Place, Form(button): Form<Button>) -> Response {
    let Some(sources) = pages.desk.sources.get().filter(|_| pages.may(&place, &button)) else {
        return see("/login?said=over");
    };
    let Desk { jobs, tasks, clock, .. } = &pages.desk;
    // One that runs is as good.
    drop(verify::begin(sources.cache.clone(), jobs, tasks, clock.clone()));
    see("/live?said=begun")
}

impl Pages {
    fn frame(&self, place: &Place, said: Option<&'static str>) -> Frame {
        self.frame_of("", place, said)
    }

    fn frame_of(&self, here: &'static str, place: &Place, said: Option<&'static str>) -> Frame {
        let (token, now) = (self.door.keys.token.get(), self.door.clock.now());
        let signed_in = token.zip(place.session.as_deref()).filter(|(token, session)| token.is_session(session, now));
        let form = signed_in.map(|(token, session)| token.form_of(session));
        Frame { here, form, said, version: env!("CARGO_PKG_VERSION") }
    }
}

type SaidIn = Query<Said>;
