//! The pages that a person or a script finds at the data port.

use std::fmt::Write as _;

use http::{HeaderValue, Method, Response, StatusCode, Uri, header};

use super::body::Body;
use super::rescue::ours;
use super::target::Here;
use crate::ca::install;
use crate::http::origin::{Origin, Scheme, parse_authority};
use crate::oci::error::Code;
use crate::policy::registry::Registries;
use crate::setup::{Client, Facts, Mode, TrustStore};

/// Answers with pages.
#[derive(Clone, Debug)]
pub struct Pages {
    /// The root certificate, for `/ca.crt`.
    pub ca_pem: String,
    /// Of it, SHA-256 in hex with colons.
    pub fingerprint: String,
}

impl Pages {
    /// The page at `uri`; `here` is how the client reached this port.
    pub fn answer(&self, method: &Method, uri: &Uri, here: &Here, registries: &Registries) -> Response<Body> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return ours(StatusCode::METHOD_NOT_ALLOWED, Code::Unsupported, "only GET and HEAD here");
        }
        let path = uri.path();
        match path {
            "/" => plain(StatusCode::OK, usage(here, &self.fingerprint)),
            "/ca.crt" => text(StatusCode::OK, "application/x-pem-file", self.ca_pem.clone()),
            "/healthz" => plain(StatusCode::OK, "ok\n".to_owned()),
            "/setup" | "/setup/" => plain(StatusCode::OK, clients(here)),
            _ => match path.strip_prefix("/setup/") {
                Some(client) => self.setup(client.trim_end_matches('/'), uri.query(), here, registries),
                None => {
                    let message = format!(
                        "there is nothing at {path}; a registry's API is at /v2/, a page about this proxy at /"
                    );
                    ours(StatusCode::NOT_FOUND, Code::Unsupported, &message)
                }
            },
        }
    }

    /// What `seawall setup CLIENT` prints, for a machine without seawall.
    fn setup(&self, client: &str, query: Option<&str>, here: &Here, registries: &Registries) -> Response<Body> {
        let Ok(client) = client.parse::<Client>() else {
            return plain(StatusCode::NOT_FOUND, format!("No client of this name.\n\n{}", clients(here)));
        };
        // Only what was read as a host and a port is written into files.
        let read = here.host.as_deref().and_then(|host| parse_authority(host, here.scheme.default_port()));
        let Some((host, port)) = read else {
            return plain(
                StatusCode::BAD_REQUEST,
                "The Host header has to say how seawall is reached: HOST:PORT.\n".to_owned(),
            );
        };
        let address = Origin { scheme: here.scheme, host, port };
        let asked = query.unwrap_or_default().split('&').find_map(|pair| pair.strip_prefix("mode="));
        let mode = asked.map_or(Ok(client.default_mode()), str::parse);
        let facts = Facts {
            address: address.clone(),
            ca_pem: self.ca_pem.clone(),
            store: TrustStore::debian(),
            registries: registries.clone(),
            containerd: None,
        };
        match mode.ok().and_then(|mode| Some((mode, client.plan(mode, &facts)?))) {
            None => plain(StatusCode::NOT_FOUND, format!("{client} comes by {}.\n", modes(client))),
            Some((mode, mut plan)) => {
                if plan.files.iter().any(|file| file.path == facts.store.file) {
                    plan.notes.push(other_stores(&facts.store));
                }
                plain(StatusCode::OK, plan.text(client, mode, &address))
            }
        }
    }
}

fn text(status: StatusCode, kind: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(Body::full(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn plain(status: StatusCode, body: String) -> Response<Body> {
    text(status, "text/plain; charset=utf-8", body)
}

fn modes(client: Client) -> String {
    let modes: Vec<_> = client.modes().iter().map(|mode: &Mode| format!("?mode={mode}")).collect();
    modes.join(", ")
}

fn clients(here: &Here) -> String {
    let mut text = format!("Ask for one of these: curl -fsS {here}/setup/docker\n\n");
    for client in Client::ALL {
        let _ = writeln!(text, "/setup/{:<15} {}", client.as_str(), client.about());
        let _ = writeln!(text, "{:22} {}", "", modes(*client));
    }
    text.push_str("\nWithout ?mode the first one is used.\n");
    text
}

fn other_stores(this: &TrustStore) -> String {
    let others = install::trust_stores().filter(|(file, _)| *file != this.file);
    let lines: Vec<_> = others.map(|(file, command)| format!("  {}, then {command}", file.display())).collect();
    format!(
        "The root's file and command are those of Debian, Ubuntu and Alpine. Of SUSE, Arch, RHEL and Fedora they are one of\n{}.",
        lines.join("\n")
    )
}

fn usage(here: &Here, fingerprint: &str) -> String {
    let host = here.host_or_blank();
    // What a client wrote into Host is shown to that client alone, as plain text.
    format!(
        "seawall: a caching proxy for container registries. Images keep their names; what was pulled once comes from here, also while\n\
         a registry is away or its limit is reached.\n\n\
         As a mirror, with nothing to trust, for public images:\n\
         \x20   crane pull {insecure}{host}/library/alpine alpine.tar      ({host}/ghcr.io/owner/app for other registries)\n\n\
         As a proxy, for private images and pushes too:\n\
         \x20   curl -fsS {here}/ca.crt -o /usr/local/share/ca-certificates/seawall.crt && update-ca-certificates\n\
         \x20   HTTPS_PROXY={here} crane pull alpine alpine.tar            (daemons read roots at their start: restart them)\n\
         \x20   The root's SHA-256 fingerprint, which must be what `seawall ca show` prints:\n\
         \x20   {fingerprint}\n\n\
         To set a client up for good, either way:\n\
         \x20   curl -fsS {here}/setup/docker                              (containerd, podman, k3s, …: {here}/setup lists them)\n",
        insecure = if here.scheme == Scheme::Http { "--insecure " } else { "" }
    )
}
