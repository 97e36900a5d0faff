//! What the fakes do wrong, they do exactly.

use http::{Method, Version};

use super::selftest::{direct, for_h1_and_h2, one_blob};
use super::{Blob, ClientError, End, Fault, Gate, Pki, Seen};

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_gate_holds_a_body_and_a_head() {
    let pki = Pki::new();
    let blob = Blob::generated(7, 3 << 20);
    let (registry, url) = one_blob(&pki, &blob).await;
    for client in for_h1_and_h2(&direct(&registry, &pki)) {
        let gate = registry.gate_blob(&blob.digest(), 100_000);
        let mut open = client.get(&url).open().await.unwrap();
        assert_eq!(open.headers["content-length"], blob.len().to_string().as_str());
        gate.reached().await;
        let start = open.read_exactly(100_000).await.unwrap();
        assert!(blob.holds(0, &start) && gate.arrivals() == 1);
        gate.open();
        assert!(blob.holds(100_000, &open.rest().await.unwrap()));
        registry.clear_faults();

        let head = Gate::new();
        registry.fault(Fault::on("blobs").method(Method::HEAD).hold_head(&head).times(1));
        let (reply, ()) = tokio::join!(client.head(&url).send(), async {
            head.reached_by(1).await;
            head.open();
        });
        assert_eq!(reply.unwrap().header("content-length"), blob.len().to_string());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_gate_holds_an_answer_that_is_decided() {
    let pki = Pki::new();
    let blob = Blob::from(b"there, and gone");
    let (registry, url) = one_blob(&pki, &blob).await;
    for client in for_h1_and_h2(&direct(&registry, &pki)) {
        let gate = Gate::new();
        registry.add_blob("a/b", blob.clone());
        registry.fault(Fault::on("blobs").hold_answer(&gate).times(1));
        let (reply, ()) = tokio::join!(client.get(&url).send(), async {
            gate.reached().await;
            registry.remove("a/b", &blob.digest());
            gate.open();
        });
        assert_eq!(reply.unwrap().bytes(), &blob.bytes());
        assert_eq!(client.get(&url).send().await.unwrap().status, 404);
        registry.fault(Fault::on("blobs").method(Method::HEAD).names(&blob.digest(), "text/plain", 7777).times(1));
        let reply = client.head(&url).send().await.unwrap();
        assert_eq!((reply.header("docker-content-digest"), reply.header("content-length")), (&*blob.digest(), "7777"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_cut_body_ends_at_that_byte_and_never_cleanly() {
    let pki = Pki::new();
    let blob = Blob::generated(8, 5 << 20);
    let (registry, url) = one_blob(&pki, &blob).await;
    for client in for_h1_and_h2(&direct(&registry, &pki)) {
        for at in [0, 1, 70_000, (5 << 20) - 1] {
            registry.fault(Fault::on("bytes").cut_at(at).times(1));
            let mut open = client.get(&url).open().await.unwrap();
            let (got, end) = open.until_end().await;
            assert_eq!((got, end.is_err()), (at, true));
            let rest = client.get(&url).range(&format!("bytes={at}-")).send().await.unwrap();
            assert_eq!(rest.status, 206);
            assert!(blob.holds(at, rest.bytes()) && rest.bytes().len() as u64 == blob.len() - at);
        }
        registry.fault(Fault::on("bytes").cut_after(10).times(2));
        for _ in 0..2 {
            assert_eq!(client.get(&url).range("bytes=500-").open().await.unwrap().until_end().await.0, 10);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn lies_about_a_body() {
    let pki = Pki::new();
    let blob = Blob::generated(9, 50_000);
    let (registry, url) = one_blob(&pki, &blob).await;
    let client = direct(&registry, &pki);
    let ask = async |fault: Fault| {
        registry.clear_faults();
        let what = format!("{:?}", fault.effects);
        registry.fault(fault);
        client.get(&url).range("bytes=100-").send().await.expect(&what)
    };
    let corrupt = ask(Fault::on("bytes").corrupt(200).digest(&blob.digest())).await;
    assert!(!blob.holds(100, corrupt.bytes()) && blob.holds(100, &corrupt.bytes()[..100]));
    let long = ask(Fault::on("bytes").claim_length(5)).await;
    assert_eq!((long.header("content-length"), long.body.is_err()), ("49905", true));
    assert_eq!(ask(Fault::on("bytes").claim_length(-5)).await.bytes().len(), 49_895);
    let whole = ask(Fault::on("bytes").no_range()).await;
    assert_eq!((whole.status.as_u16(), whole.bytes().len()), (200, 50_000));
    let shifted = ask(Fault::on("bytes").shift_range(10)).await;
    assert_eq!(shifted.header("content-range"), "bytes 110-49999/50000");
    assert_eq!(ask(Fault::on("bytes").chunked()).await.header("transfer-encoding"), "chunked");
    let endless = ask(Fault::on("bytes").no_length()).await;
    assert_eq!((endless.header("transfer-encoding"), endless.header("content-length")), ("", ""));
    assert_eq!(endless.bytes().len(), 49_900);
    let empty = ask(Fault::on("bytes").empty()).await;
    assert_eq!((empty.header("content-length"), empty.bytes().len()), ("0", 0));
    let bare = ask(Fault::on("*").no_digest().media_type("text/html").set("content-encoding", "gzip")).await;
    assert_eq!((bare.header("docker-content-digest"), bare.header("content-type")), ("", "text/html"));
    let bare = client.clone().h2().get(&url).send().await.unwrap();
    assert_eq!((bare.version, bare.header("content-encoding")), (Version::HTTP_2, "gzip"));
    for off_by in [5, -5] {
        registry.fault(Fault::on("bytes").claim_length(off_by).times(1));
        assert!(client.clone().h2().get(&url).send().await.unwrap().body.is_err());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn refusals_redirects_and_limits() {
    let pki = Pki::new();
    let (registry, url) = one_blob(&pki, &Blob::from(b"bytes")).await;
    let client = direct(&registry, &pki);
    for (fault, status, header, starts) in [
        (Fault::on("blobs").status(503, "later"), 503, "content-type", "text/plain"),
        (Fault::on("blobs").error(404, "BLOB_UNKNOWN"), 404, "content-type", "application/json"),
        (Fault::on("*").pull_limit().host("r.test"), 429, "content-type", "application/json"),
        (Fault::on("*").abuse_limit(60).path_contains("/blobs/"), 429, "retry-after", "60"),
        (Fault::on("*").redirect("http://169.254.169.254/"), 307, "location", "http://169.254.169.254/"),
        (
            Fault::on("*").set("set-cookie", "sid=1").when(|seen: &Seen| seen.range().is_none()),
            200,
            "set-cookie",
            "sid=",
        ),
    ] {
        registry.fault(fault.times(1));
        let reply = client.get(&url).send().await.unwrap();
        assert_eq!(reply.status, status);
        assert!(reply.header(header).starts_with(starts));
    }
    registry.fault(Fault::on("blobs").hang_up().times(2));
    for client in for_h1_and_h2(&client) {
        assert!(matches!(client.get(&url).send().await, Err(ClientError::Http(_))));
    }
    assert_eq!(client.get(&url).send().await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_test_can_wait_for_what_the_registry_sees() {
    let pki = Pki::new();
    let blob = Blob::generated(3, 64 << 20);
    let (registry, url) = one_blob(&pki, &blob).await;
    for client in for_h1_and_h2(&direct(&registry, &pki)) {
        registry.reset_counts();
        let mut open = client.get(&url).open().await.unwrap();
        open.read_exactly(10).await.unwrap();
        drop(open);
        registry.until(|r| r.requests()[0].end() == Some(End::Broken)).await;
        assert!(registry.sent() < blob.len());
        let gate = registry.gate_blob(&blob.digest(), 5);
        let cancelled = client.connect(&url).await.unwrap();
        let held = cancelled.request(Method::GET, &url).open().await.unwrap();
        gate.reached().await;
        drop(held);
        registry.clear_faults();
        drop(cancelled);
        registry.until(|r| r.open_connections() == 0).await;

        let connection = client.connect(&url).await.unwrap();
        let (feed, ask) = connection.request(Method::POST, "https://r.test/v2/c/blobs/uploads/?digest=x").fed();
        let (reply, ()) = tokio::join!(ask.send(), async {
            feed.send("12345".into()).await.unwrap();
            registry.until(|r| r.requests().last().is_some_and(|seen| seen.received() == 5)).await;
            drop(feed);
        });
        assert_eq!(reply.unwrap().status, 400);
        registry.until(|r| r.requests().last().unwrap().end() == Some(End::Whole)).await;
    }
}

/// A stream that the client reset leaves the frame counts short: a later cut on that connection
/// must not wait for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_cut_after_a_reset_stream_does_not_hang() {
    let pki = Pki::new();
    let blob = Blob::generated(3, 16 << 20);
    let (registry, url) = one_blob(&pki, &blob).await;
    let connection = direct(&registry, &pki).h2().connect(&url).await.unwrap();
    for _ in 0..5 {
        drop(connection.request(Method::GET, &url).open().await.unwrap());
    }
    registry.fault(Fault::on("bytes").cut_at(1000));
    let mut open = connection.request(Method::GET, &url).open().await.unwrap();
    let (got, end) = open.until_end().await;
    assert_eq!((got, end.is_err()), (1000, true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn down_refuses_and_up_is_the_same_port() {
    let pki = Pki::new();
    let (registry, url) = one_blob(&pki, &Blob::from(b"bytes")).await;
    let client = direct(&registry, &pki);
    let kept = client.connect(&url).await.unwrap();
    assert_eq!(kept.request(Method::GET, &url).send().await.unwrap().status, 200);
    assert_eq!(registry.open_connections(), 1);
    for _ in 0..20 {
        registry.down();
        assert!(matches!(client.get(&url).send().await, Err(ClientError::Tcp(_))));
        assert!(kept.request(Method::GET, &url).send().await.is_err());
        registry.up();
        assert_eq!(client.get(&url).send().await.unwrap().status, 200);
        registry.down_host("r.test");
        registry.up();
    }
}
