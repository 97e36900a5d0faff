//! The operator's pages: what is wrong, what is here, what comes, whom it comes from. They are whole without
//! scripts; htmx, where it runs, looks again now and then.

mod assets;
mod frame;
mod line;
mod overview;
mod place;
mod session;
mod upstreams;
mod words;

use axum::extract::{FromRef, State};
use axum::middleware;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Form, Router};

use super::door::{self, Door};
use super::jobs::Desk;
use crate::operate::verify;
use frame::see;
pub(super) use place::Pages;
use place::Place;
use session::Button;

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
    let Some(sources) = pages.desk.sources.get().filter(|_| pages.may(&place, &button.form)) else {
        return see("/login?said=over");
    };
    let Desk { jobs, tasks, clock, .. } = &pages.desk;
    // One that runs is as good.
    drop(verify::begin(sources.cache.clone(), jobs, tasks, clock.clone()));
    see("/live?said=begun")
}
