//! `reserve`: docker and containerd ask what a tag names, and then for that by its digest. It is
//! the tag's pull all the same.

use std::time::Duration;

use crate::harness::*;
use crate::tags::hub;

const TAG: &str = "docker.io/library/alpine:3.20";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_client_takes_the_last_pulls_for_a_tag() {
    for style in Style::ALL {
        let pki = Pki::new();
        let registry = hub(&pki).await;
        let toml = "[[registry]]\nname = \"docker.io\"\nreserve = 10";
        let seawall = Seawall::before(&registry).toml(toml).start(&pki).await;
        registry.set_remaining(ANONYMOUS_SOURCE, 10);
        let refused = seawall.client().pull(TAG, style).await.unwrap_err().to_string();
        assert!(
            refused.contains("429") && refused.contains("are for what is asked for by digest"),
            "{style:?}: {refused}"
        );
        assert_eq!((registry.gets("manifests"), registry.remaining(ANONYMOUS_SOURCE)), (0, Some(10)), "{style:?}");
        // Who knows the digest by heart was not told it.
        seawall.clock.advance(Duration::from_secs(61));
        let pinned = format!("docker.io/library/alpine@{}", Image::two_platforms().digest());
        seawall.client().pull(&pinned, style).await.unwrap_or_else(|error| panic!("{style:?}: {error}"));
        seawall.client().pull(TAG, style).await.unwrap_or_else(|error| panic!("{style:?}, it is here now: {error}"));
    }
}
