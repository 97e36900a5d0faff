//! nginx with `proxy_cache`, as a good operator writes it for a registry.

use std::fmt::Write as _;
use std::process::Command;

use anyhow::Result;

use super::{Lab, Missing, Server, free_address, launch, room, says, tool};
use crate::HOST;

/// Its configuration. Worth knowing: TLS 1.3 alone; sendfile where there is no TLS; files of the
/// cache are kept open; connections to upstream are kept; of many who ask for the same, one goes
/// upstream (`proxy_cache_lock`) and the others wait until all of it is there.
fn configuration(lab: &Lab<'_>, tls: std::net::SocketAddr, plain: std::net::SocketAddr) -> String {
    let upstream = lab.upstream.place.named;
    let user = if rustix::process::getuid().is_root() { "user root;\n" } else { "" };
    let mut text = String::new();
    let _ = write!(
        text,
        r#"{user}worker_processes auto;
pid nginx.pid;
error_log log warn;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  server_tokens off;
  sendfile on;
  tcp_nopush on;
  tcp_nodelay on;
  keepalive_timeout 75s;
  keepalive_requests 1000000;
  open_file_cache max=10000 inactive=10m;
  open_file_cache_valid 10m;
  client_body_temp_path tmp-body;
  proxy_temp_path tmp-proxy;
  fastcgi_temp_path tmp-f;
  uwsgi_temp_path tmp-u;
  scgi_temp_path tmp-s;
  default_type application/octet-stream;
  proxy_cache_path cache levels=1:2 keys_zone=registry:10m max_size=16g inactive=7d use_temp_path=off;
  upstream registry {{ server {upstream}; keepalive 32; keepalive_requests 1000000; }}
  server {{
    listen {plain} reuseport backlog=4096;
    listen {tls} ssl http2 reuseport backlog=4096;
    server_name {HOST};
    ssl_certificate leaf.pem;
    ssl_certificate_key leaf.key;
    ssl_protocols TLSv1.3;
    ssl_session_cache shared:tls:10m;
    ssl_session_tickets on;
    proxy_pass_request_body off;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Host {HOST};
    proxy_ssl_server_name on;
    proxy_ssl_name {HOST};
    proxy_ssl_verify on;
    proxy_ssl_trusted_certificate upstream.pem;
    proxy_ssl_session_reuse on;
    proxy_cache registry;
    proxy_cache_lock on;
    proxy_cache_lock_timeout 10m;
    proxy_cache_lock_age 10m;
    proxy_cache_use_stale error timeout updating http_500 http_502 http_503 http_504;
    proxy_cache_background_update on;
    proxy_buffers 16 64k;
    proxy_buffer_size 64k;
    proxy_busy_buffers_size 128k;
    location ~ ^/v2/.+/blobs/ {{ proxy_cache_key $uri; proxy_cache_valid 200 7d; proxy_pass https://registry; }}
    location / {{ proxy_cache_key $uri$http_accept; proxy_cache_valid 200 1h; proxy_pass https://registry; }}
  }}
}}
"#
    );
    text
}

/// What is not there is said.
pub(crate) fn start(lab: &Lab<'_>) -> Result<Result<Server, Missing>> {
    let Some(nginx) = tool("nginx") else {
        return Ok(Err(Missing("nginx: apt-get install nginx-light".to_owned())));
    };
    let dir = room(lab)?;
    let (tls, plain) = (free_address()?, free_address()?);
    let (leaf, key) = lab.pki.server_certificate(&[HOST]);
    let files = [
        ("nginx.conf", configuration(lab, tls, plain)),
        ("leaf.pem", leaf + &lab.pki.ca_pem()),
        ("leaf.key", key),
        ("upstream.pem", lab.upstream.place.ca_pem.clone()),
        ("log", String::new()),
    ];
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text)?;
    }
    let mut command = Command::new(&nginx);
    command.arg("-p").arg(dir.path()).args(["-c", "nginx.conf", "-e", "log", "-g", "daemon off;"]);
    let child = launch(&mut command, dir.path(), &[tls, plain])?;
    let version = says(Command::new(&nginx).arg("-v"))?.replace("nginx version: ", "").replace('/', " ");
    let ca_pem = lab.pki.ca_pem();
    Ok(Ok(Server { name: "nginx", version, tls, plain, ca_pem, slowness: 1, children: vec![child], dir }))
}
