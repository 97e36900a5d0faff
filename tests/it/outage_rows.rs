//! For each failure of upstream, what a client sees of what is here: over h1 and h2, by tag and by
//! digest, GET and HEAD, in every client's way. tests/it/away.rs has what the registry says, this
//! has the rest.

use std::time::Duration;

use http::Method;

use crate::flight::landed;
use crate::harness::*;
use crate::tags::{ALL, HUB, TAG, ask};

const IMAGE: &str = "docker.io/library/alpine:3.20";
const DAY: Duration = Duration::from_secs(86_400);

async fn hub(pki: &Pki, alpn: Alpn) -> Registry {
    let registry =
        Registry::new("registry-1.docker.io").image("library/alpine:3.20", Image::two_platforms()).token_auth();
    match alpn {
        Alpn::H1 => registry.only_h1().start(pki).await,
        // h2 for all but blobs.
        _ => registry.start(pki).await,
    }
}

/// Everything is here, and every yes and every tag is a day old when this returns.
async fn warmed(seawall: &Seawall) {
    for style in Style::ALL {
        seawall.client().pull(IMAGE, style).await.unwrap();
    }
    landed(seawall).await;
}

/// What is asked for: a tag, and a digest.
fn wanted() -> [(Method, String); 4] {
    let digest = format!("{HUB}/v2/library/alpine/manifests/{}", Image::two_platforms().platforms()[0].digest());
    [
        (Method::GET, TAG.to_owned()),
        (Method::HEAD, TAG.to_owned()),
        (Method::GET, digest.clone()),
        (Method::HEAD, digest),
    ]
}

/// The copy, with a warning and the reason, whatever is asked for; and every kind of pull.
async fn serves_its_copy(seawall: &Seawall, row: &str, reason: &str) {
    for (method, url) in wanted() {
        let reply = ask(&seawall.client(), method.clone(), &url, &ALL).await;
        assert_eq!(reply.status, 200, "{row}, {method} {url}");
        let cache_status = reply.header("cache-status");
        assert!(cache_status.starts_with("seawall; fwd=stale; detail="), "{row}, {method} {url}: {cache_status}");
        assert!(cache_status.ends_with(reason), "{row}: {cache_status}");
        assert!(
            reply.header("warning").starts_with("299 - \"seawall: served from cache"),
            "{row}: {:?}",
            reply.headers
        );
    }
    let counted = seawall.metric(&format!("seawall_stale_total{{registry=\"docker.io\",reason=\"{reason}\"}}"));
    assert_eq!(counted, 4.0, "{row}");
    for style in Style::ALL {
        let pulled = seawall.client().pull(IMAGE, style).await;
        pulled.unwrap_or_else(|e| panic!("{row}, {style:?}: {e}"));
    }
}

/// Pitfall 32.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_is_served_whatever_fails_and_however_it_is_asked_for() {
    for alpn in [Alpn::H1, Alpn::Both] {
        for (row, reason) in [
            ("refused", "unreachable"),
            ("silence", "timeout"),
            ("500", "error"),
            ("502", "error"),
            ("503", "error"),
            ("504", "error"),
            ("429", "rate-limited"),
            ("token 503", "error"),
            ("token 429", "rate-limited"),
            ("token refused", "unreachable"),
            ("token silence", "timeout"),
        ] {
            let pki = Pki::new();
            let registry = hub(&pki, alpn).await;
            let toml = "[upstream]\nCA_FILE\nresolve_deadline = \"200ms\"";
            let seawall = Seawall::before(&registry).toml(toml).start(&pki).await;
            warmed(&seawall).await;
            seawall.clock.advance(DAY);
            registry.revoke_tokens();
            let never = Gate::new();
            let (kind, what) = row.strip_prefix("token ").map_or(("*", row), |what| ("token", what));
            match (kind, what) {
                ("*", "refused") => registry.down(),
                (_, "refused") => registry.down_host("auth.docker.io"),
                (_, "silence") => registry.fault(Fault::on(kind).hold_head(&never)),
                (_, "429") => registry.fault(Fault::on(kind).abuse_limit(60)),
                (_, status) => registry.fault(Fault::on(kind).status(status.parse().unwrap(), "")),
            }
            serves_its_copy(&seawall, &format!("{alpn:?} {row}"), reason).await;
        }
    }
}

/// 400 and the like are what a registry says to this request: who sends another is told something
/// else. A client could send what is refused on purpose.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_not_taken_is_never_answered_with_a_copy() {
    for status in [400, 413, 431] {
        let pki = Pki::new();
        let registry = hub(&pki, Alpn::Both).await;
        let seawall = Seawall::before(&registry).start(&pki).await;
        warmed(&seawall).await;
        seawall.clock.advance(DAY);
        registry.make_private("library/alpine", &["alice"]);
        let is_long = |seen: &Seen| seen.headers.get("authorization").is_some_and(|value| value.len() > 8000);
        registry.fault(Fault::on("manifests").when(is_long).status(status, ""));
        for (method, url) in wanted() {
            let token = "x".repeat(20_000);
            let client = seawall.client();
            let ask = ALL.iter().fold(client.request(method.clone(), &url), |ask, one| ask.header("accept", one));
            let reply = ask.bearer(&token).send().await.unwrap();
            assert_eq!((reply.status.as_u16(), reply.header("warning")), (status, ""), "{method} {url}");
        }
        assert_eq!(seawall.metric("seawall_stale_total"), 0.0);
    }
}

/// A no that comes too late for who asked is one for whoever asks next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_refusal_ends_a_grant() {
    let pki = Pki::new();
    let registry = hub(&pki, Alpn::Both).await;
    let toml = "[upstream]\nCA_FILE\nresolve_deadline = \"100ms\"";
    let seawall = Seawall::before(&registry).toml(toml).start(&pki).await;
    warmed(&seawall).await;
    seawall.clock.advance(DAY);
    registry.make_private("library/alpine", &["alice"]);
    registry.revoke_tokens();
    let gate = Gate::new();
    registry.fault(Fault::on("token").hold_head(&gate));
    registry.reset_counts();
    assert_eq!(ask(&seawall.client(), Method::GET, TAG, &ALL).await.status, 200);
    gate.open();
    let refused = |seen: &Seen| seen.method == Method::HEAD && seen.status() == 401;
    registry.until(|registry| registry.count(refused) == 2).await;
    registry.clear_faults();
    registry.fault(Fault::on("manifests").status(503, ""));
    let is_over = async { while ask(&seawall.client(), Method::GET, TAG, &ALL).await.status == 200 {} };
    tokio::time::timeout(crate::harness::faults::PATIENCE, is_over)
        .await
        .unwrap_or_else(|_| panic!("the grant stands {}", registry.log()));
}

/// Pitfall 30: it starts in the middle of an outage, with everything from disk: nobody listens,
/// nobody has a certificate that is trusted, nobody knows a name, nobody to ask for a name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_starts_and_serves_with_no_network_at_all() {
    let (pki, others) = (Pki::new(), Pki::new());
    let dir = tempfile::tempdir().unwrap();
    let registry = hub(&pki, Alpn::Both).await;
    let seawall = Seawall::before(&registry).data(dir.path()).start(&pki).await;
    warmed(&seawall).await;
    seawall.stop().await;
    registry.down();
    let impostor = hub(&others, Alpn::Both).await;
    let dns = Dns::start(|_, _| Vec::new()).await;
    let nobody = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let asks = |server| format!("[upstream]\nCA_FILE\nnameservers = [\"{server}\"]\nresolve_deadline = \"300ms\"");
    for (row, reason, builder) in [
        ("refused", "unreachable", Seawall::before(&registry)),
        ("TLS", "unreachable", Seawall::before(&impostor)),
        ("no such name", "unreachable", Seawall::alone().toml(&asks(dns.addr()))),
        ("no name server", "", Seawall::alone().toml(&asks(nobody))),
    ] {
        let seawall = builder.data(dir.path()).start(&pki).await;
        seawall.clock.advance(DAY);
        let row = format!("{row}, since the start");
        if reason.is_empty() {
            let reply = ask(&seawall.client(), Method::GET, TAG, &ALL).await;
            assert!(reply.status == 200 && reply.header("cache-status").contains("fwd=stale"), "{:?}", reply.headers);
        } else {
            serves_its_copy(&seawall, &row, reason).await;
        }
        let nothing = ask(&seawall.client(), Method::GET, &format!("{HUB}/v2/library/other/manifests/1"), &ALL).await;
        assert!([502, 504].contains(&nothing.status.as_u16()), "{row}: {}", nothing.status);
        assert_eq!(nothing.header("content-type"), "application/json");
        seawall.stop().await;
    }
}
