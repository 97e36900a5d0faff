//! Signing in and out, and who may use a form: whose page has the session's word in it.

use axum::Form;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use serde::Deserialize;

use super::frame::{Frame, page, see};
use super::place::{Pages, Place, SaidIn};
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
    pub(super) form: String,
}

pub(super) async fn login(State(pages): State<Pages>, place: Place, said: SaidIn) -> Response {
    let login = Login { frame: pages.frame(&place, said.words()), is_clear: !place.is_safe };
    page(StatusCode::OK, &login)
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
    if !pages.may(&place, &button.form) {
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
