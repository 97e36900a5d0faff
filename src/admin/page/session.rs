//! Signing in and out, and who may use a form: whose page has the session's word in it.

use axum::Form;
use axum::extract::{Query, State};
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use serde::Deserialize;

use super::frame::{Frame, page, see};
use super::{Pages, Place};
use crate::admin::door::COOKIE;
use crate::operate::token::SESSION;

/// Where one signs in.
#[derive(askama::Template)]
#[template(path = "login.html", config = "src/admin/page/askama.toml")]
struct Login {
    frame: Frame,
    is_clear: bool,
}

#[derive(Deserialize)]
pub(super) struct SignIn {
    token: String,
}

/// A button's form.
#[derive(Deserialize)]
pub(super) struct Button {
    #[serde(default)]
    form: String,
}

pub(super) async fn login(State(pages): State<Pages>, place: Place, Query(said): Query<Said>) -> Response {
    let login = Login { frame: pages.frame(&place, said.words()), is_clear: !place.is_safe };
    page(StatusCode::OK, &login)
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

pub(super) async fn sign_in(State(pages): State<Pages>, place: Place, Form(shown): Form<SignIn>) -> Response {
    if !place.is_own {
        return see("/login");
    }
    if !place.is_safe {
        return see("/login?said=clear");
    }
    let begun = pages.door.keys.token.get().filter(|token| token.is(shown.token.trim()));
    let Some(session) = begun.and_then(|token| token.begin_session(pages.door.clock.now())) else {
        return see("/login?said=wrong");
    };
    let secure = if place.is_tls { "; Secure" } else { "" };
    let cookie =
        format!("{COOKIE}={session}; Path=/; Max-Age={}; HttpOnly; SameSite=Strict{secure}", SESSION.as_secs());
    with_cookie(see("/"), &cookie)
}

pub(super) async fn sign_out(State(pages): State<Pages>, place: Place, Form(button): Form<Button>) -> Response {
    if !pages.may(&place, &button) {
        return see("/login?said=over");
    }
    with_cookie(see("/login?said=out"), &format!("{COOKIE}=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict"))
}

fn with_cookie(mut response: Response, cookie: &str) -> Response {
    if let Ok(value) = HeaderValue::try_from(cookie) {
        response.headers_mut().insert(header::SET_COOKIE, value);
    }
    response
}

impl Pages {
    /// Whether a form is of a page that this listener gave to who is signed in.
    pub(super) fn may(&self, place: &Place, button: &Button) -> bool {
        let Some((token, session)) = self.door.keys.token.get().zip(place.session.as_deref()) else { return false };
        place.is_own
            && place.is_safe
            && token.is_session(session, self.door.clock.now())
            && token.is_form_of(session, &button.form)
    }
}
