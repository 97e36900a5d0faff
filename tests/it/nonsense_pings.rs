//! `/v2/`, answered by a gate: it is passed on, and never remembered as "no login needed".

use http::Method;

use crate::access::{HUB, hub};
use crate::harness::faults::PAGE;
use crate::harness::*;

/// Item 8 of issue 13. What is no answer of a registry is asked for again at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_is_not_remembered_as_no_login_needed() {
    let pki = Pki::new();
    for (fault, status) in [
        (Fault::on("ping").page(), 200),
        (Fault::on("ping").answers(200, "Text/HTML", PAGE), 200),
        (Fault::on("ping").page().chunked(), 200),
        (Fault::on("ping").answers(200, "text/plain", "busy"), 200),
        (Fault::on("ping").answers(202, "application/json", "{}"), 202),
        (Fault::on("ping").answers(204, "", ""), 204),
        (Fault::on("ping").answers(401, "text/html", PAGE), 401),
    ] {
        for method in [Method::GET, Method::HEAD] {
            for h2 in [false, true] {
                let registry = hub(&pki).await;
                let seawall = Seawall::before(&registry).start(&pki).await;
                let client = if h2 { seawall.client().h2() } else { seawall.client() };
                let url = format!("{HUB}/v2/");
                registry.fault(fault.clone());
                let passed = client.request(method.clone(), &url).send().await.unwrap();
                assert_eq!(passed.status.as_u16(), status, "it is passed on as it is");
                registry.clear_faults();
                let reply = client.request(method.clone(), &url).send().await.unwrap();
                assert_eq!(reply.status, 401, "{status} {method}: {:?}", reply.headers);
                assert!(reply.header("www-authenticate").starts_with("Bearer "), "{status} {method}");
                registry.fault(fault.clone());
                let again = client.request(method.clone(), &url).send().await.unwrap();
                assert_eq!(again.header("cache-status"), "seawall; hit", "the challenge is remembered");
                let seawall = seawall.restart(&pki).await;
                let again = seawall.client().request(method.clone(), &url).send().await.unwrap();
                assert_eq!(again.status, 401, "after a restart");
            }
        }
    }
}

/// What an open registry answers is remembered: JSON, or nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_registry_is_asked_once() {
    let pki = Pki::new();
    for fault in [
        None,
        Some(Fault::on("ping").answers(200, "application/json; charset=utf-8", "true")),
        Some(Fault::on("ping").answers(200, "", "")),
        Some(Fault::on("ping").answers(200, "text/plain", "")),
    ] {
        let registry = Registry::new("ghcr.io").start(&pki).await;
        if let Some(fault) = fault {
            registry.fault(fault);
        }
        let seawall = Seawall::before(&registry).start(&pki).await;
        for _ in 0..3 {
            assert_eq!(seawall.client().get("https://ghcr.io/v2/").send().await.unwrap().status, 200);
        }
        assert_eq!(registry.gets("ping"), 1, "{}", registry.log());
    }
}
