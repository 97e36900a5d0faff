//! A manifest is no blob, and a blob no manifest: a registry has an endpoint for each, and says 404
//! at the other.

use std::time::Duration;

use http::Method;

use crate::access::HUB;
use crate::harness::*;

/// The digests of an image under the endpoint of the other kind.
fn swapped(image: &Image) -> Vec<String> {
    let manifests = image.manifests().into_iter().map(|(_, bytes)| format!("blobs/{}", sha256(&bytes)));
    let blobs = image.blobs().into_iter().map(|blob| format!("manifests/{}", blob.digest()));
    manifests.chain(blobs).map(|rest| format!("{HUB}/v2/library/alpine/{rest}")).collect()
}

/// Invariant 7, pitfall 45: what a repository has as a manifest it has not as a blob.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_here_as_one_kind_is_asked_for_as_the_other() {
    let pki = Pki::new();
    let image = Image::two_platforms();
    let registry = Registry::new("registry-1.docker.io").image("library/alpine:3.20", image.clone());
    let registry = registry.start(&pki).await;
    let seawall = Seawall::before(&registry).start(&pki).await;
    let client = seawall.client();
    let direct = async |url: &str, method| client.request(method, url).send().await.unwrap().status;
    for when in ["cold", "warm", "warm, once more"] {
        for url in swapped(&image) {
            for method in [Method::HEAD, Method::GET] {
                assert_eq!(direct(&url, method.clone()).await, 404, "{when}: {method} {url}\n{}", registry.log());
            }
        }
        client.pull("docker.io/library/alpine:3.20", Style::Containerd).await.unwrap();
        seawall.clock.advance(Duration::from_secs(1));
    }
    // Nobody can say that there is none: it is no copy of what is asked for either.
    registry.down();
    for url in swapped(&image) {
        let status = direct(&url, Method::GET).await;
        assert!(status.is_server_error(), "{url}: {status}");
    }
    client.pull("docker.io/library/alpine:3.20", Style::Containerd).await.unwrap();
}
