//! By which names the operator's page and API are asked for: a page of anywhere may make a browser ask
//! this port under a name of its own (DNS rebinding), and would read what comes back.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, StatusCode, header};

use super::reply::text;
use crate::http::origin::{Host, parse_authority};

/// Lets through what calls this listener by an address, by `localhost` or by a name of
/// `admin.hosts`. HTTP/1.1 has one `Host`; it counts, whatever the request line says (RFC 9112, 3.2).
pub(super) async fn known(State(hosts): State<Arc<[Host]>>, request: Request, next: Next) -> Response {
    let is_named = request.uri().authority().is_none_or(|named| is_known(named.as_str(), &hosts));
    match host(request.headers()) {
        Some(named) if is_named && is_known(named, &hosts) => next.run(request).await,
        named => {
            let named = named.unwrap_or_default().to_owned();
            let message = format!(
                "{named:?} is no name of this listener: call it by its address, by localhost, or add the name to `hosts` of [admin]\n"
            );
            text(StatusCode::MISDIRECTED_REQUEST, message)
        }
    }
}

fn host(headers: &HeaderMap) -> Option<&str> {
    let mut lines = headers.get_all(header::HOST).iter();
    let named = lines.next()?.to_str().ok()?;
    lines.next().is_none().then_some(named)
}

fn is_known(authority: &str, hosts: &[Host]) -> bool {
    match parse_authority(authority, 0) {
        Some((Host::Ip(_), _)) => true,
        Some((Host::Name(name), _)) if &*name == "localhost" => true,
        Some((host, _)) => hosts.contains(&host),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_localhost_and_names_of_its_own() {
        let hosts = ["seawall.corp".parse().unwrap()];
        for named in [
            "127.0.0.1:3129",
            "127.0.0.1",
            "[::1]:3129",
            "10.0.0.7:3129",
            "localhost:3129",
            "LOCALHOST",
            "seawall.corp:3129",
        ] {
            assert!(is_known(named, &hosts), "{named}");
        }
        for named in [
            "",
            "evil.example",
            "evil.example:3129",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "u@localhost",
            "seawall.corp.evil",
        ] {
            assert!(!is_known(named, &hosts), "{named}");
        }
    }
}
