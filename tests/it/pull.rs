//! A pull, cold and warm, in every client's order.

use std::time::Duration;

use crate::harness::*;

async fn hub(pki: &Pki) -> Registry {
    Registry::new("registry-1.docker.io")
        .image("library/alpine:3.20", Image::two_platforms())
        .token_auth()
        .cdn("cdn.example.test")
        .quota(100)
        .start(pki)
        .await
}

/// docs/performance.md: a warm pull by tag inside its ttl reaches nothing upstream, tokens
/// included.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_warm_pull_inside_its_ttl_reaches_nothing_upstream_in_any_order() {
    for style in Style::ALL {
        let pki = Pki::new();
        let registry = hub(&pki).await;
        let seawall = Seawall::before(&registry).start(&pki).await;
        let cold = seawall
            .client()
            .pull("docker.io/library/alpine:3.20", style)
            .await
            .unwrap_or_else(|e| panic!("{style:?}: {e:?}\n{}", registry.log()));
        assert_eq!(registry.gets("manifests"), 2, "{style:?}: index and manifest\n{}", registry.log());
        registry.reset_counts();
        let warm = seawall
            .client()
            .pull("docker.io/library/alpine:3.20", style)
            .await
            .unwrap_or_else(|e| panic!("{style:?}: {e:?}\n{}", registry.log()));
        assert_eq!(registry.requests().len(), 0, "{style:?}\n{}\n{:?}", registry.log(), warm.steps);
        assert_eq!(warm.digest, cold.digest);
    }
}

/// docs/performance.md: after the ttl, one HEAD, nothing counted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_warm_pull_after_its_ttl_costs_one_head() {
    for style in Style::ALL {
        let pki = Pki::new();
        let registry = hub(&pki).await;
        let seawall = Seawall::before(&registry).start(&pki).await;
        seawall.client().pull("docker.io/library/alpine:3.20", style).await.unwrap();
        registry.reset_counts();
        seawall.clock.advance(Duration::from_secs(61));
        seawall.client().pull("docker.io/library/alpine:3.20", style).await.unwrap();
        assert_eq!(registry.heads("manifests"), 1, "{style:?}\n{}", registry.log());
        assert_eq!(registry.requests().len(), 1, "{style:?}\n{}", registry.log());
    }
}
