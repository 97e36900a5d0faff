//! What a person or a script finds at the data port.

use http::{HeaderValue, Method, Response, StatusCode, header};

use super::body::Body;
use super::rescue::ours;
use crate::oci::error::Code;

/// The pages.
#[derive(Clone, Debug)]
pub struct Pages {
    /// The root certificate.
    pub ca_pem: String,
}

impl Pages {
    /// The page at `path`; `host` is how the client reached this port.
    pub fn answer(&self, method: &Method, path: &str, host: &str) -> Response<Body> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return ours(StatusCode::METHOD_NOT_ALLOWED, Code::Unsupported, "only GET and HEAD here");
        }
        match path {
            "/" => text("text/plain; charset=utf-8", usage(host)),
            "/ca.crt" => text("application/x-pem-file", self.ca_pem.clone()),
            "/healthz" => text("text/plain; charset=utf-8", "ok\n".to_owned()),
            _ => {
                let message =
                    format!("there is nothing at {path}; a registry's API is at /v2/, a page about this proxy at /");
                ours(StatusCode::NOT_FOUND, Code::Unsupported, &message)
            }
        }
    }
}

fn text(kind: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(Body::full(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn usage(host: &str) -> String {
    // Whatever a client wrote into Host is not repeated to others: this is plain text for that one client.
    format!(
        "seawall: a caching proxy for container registries\n\n\
         1. Trust its root:      curl -fsS http://{host}/ca.crt -o /usr/local/share/ca-certificates/seawall.crt\n\
         \x20                       update-ca-certificates        (daemons read roots at their start: restart them)\n\
         2. Pull through it:     HTTPS_PROXY=http://{host} crane pull alpine alpine.tar\n\
         \x20  or as a mirror:      crane pull --insecure {host}/library/alpine alpine.tar\n\
         \x20                       ({host}/ghcr.io/owner/app for other registries)\n"
    )
}
