//! A registry in the clear, on the same thread: one image, some blobs, a token for everybody.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use seawall::oci::digest::{Algorithm, Digest};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Its host, as clients know it.
pub(crate) const HOST: &str = "lab.test";

static ASKED: AtomicU64 = AtomicU64::new(0);

/// How often it was asked.
pub(crate) fn asked() -> u64 {
    ASKED.load(Ordering::Relaxed)
}

/// What it holds.
#[derive(Clone)]
pub(crate) struct Contents {
    pub(crate) manifest: Vec<u8>,
    pub(crate) small: Vec<u8>,
    pub(crate) large: Vec<u8>,
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    Digest::of(Algorithm::Sha256, bytes).to_string()
}

impl Contents {
    pub(crate) fn new() -> Contents {
        let bytes = |len: usize| (0..len).map(|n| (n * 7 + n / 251) as u8).collect::<Vec<u8>>();
        let (small, large) = (bytes(32 << 10), bytes(1 << 20));
        let described = |kind: &str, bytes: &[u8]| {
            format!(
                r#"{{"mediaType":"application/vnd.oci.image.{kind}","digest":"{}","size":{}}}"#,
                digest(bytes),
                bytes.len()
            )
        };
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{},"layers":[{},{}]}}"#,
            described("config.v1+json", &small),
            described("layer.v1.tar+gzip", &small),
            described("layer.v1.tar+gzip", &large)
        );
        Contents { manifest: manifest.into_bytes(), small, large }
    }

    /// Listens, and answers from then on, on this thread.
    pub(crate) async fn serve(self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(answer(socket, self.clone()));
            }
        });
        address
    }

    /// Status, type and body.
    fn find(&self, path: &str) -> (&'static str, &'static str, Vec<u8>) {
        match path.split('?').next().unwrap_or_default() {
            "/token" => ("200 OK", "application/json", br#"{"token":"for-nobody","expires_in":3600}"#.to_vec()),
            "/v2/" => ("401 Unauthorized", "application/json", b"{}".to_vec()),
            path if path.contains("/manifests/") => ("200 OK", MANIFEST, self.manifest.clone()),
            path => {
                let blob = [&self.small, &self.large].into_iter().find(|blob| path.ends_with(&digest(blob)));
                match blob {
                    Some(blob) => ("200 OK", "application/octet-stream", blob.clone()),
                    None => ("404 Not Found", "application/json", b"{}".to_vec()),
                }
            }
        }
    }
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

async fn answer(mut socket: TcpStream, contents: Contents) {
    let mut head = Vec::new();
    while socket.read_buf(&mut head).await.is_ok_and(|n| n > 0) {
        let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let text = String::from_utf8_lossy(&head[..end]).into_owned();
        head.drain(..end + 4);
        ASKED.fetch_add(1, Ordering::Relaxed);
        let mut words = text.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (status, media_type, body) = contents.find(path);
        let mut reply = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\nDocker-Content-Digest: {}\r\n\
             WWW-Authenticate: Bearer realm=\"http://{HOST}/token\",service=\"lab\"\r\n\r\n",
            body.len(),
            digest(&body)
        )
        .into_bytes();
        if method != "HEAD" {
            reply.extend(body);
        }
        if socket.write_all(&reply).await.is_err() {
            return;
        }
    }
}
