use super::*;

/// The samples that are not zero, in order.
fn samples(metrics: &Metrics) -> Vec<String> {
    let text = metrics.encode();
    text.lines()
        .filter(|l| !l.starts_with('#') && !l.ends_with(" 0") && !l.ends_with(" 0.0"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn names_and_labels_are_those_of_the_design() {
    let m = Metrics::new();
    m.request("docker.io", "manifest", "hit");
    m.served("docker.io", Served::Cache, 10);
    m.upstream_request("docker.io", "blob", "GET", 200);
    m.upstream_request("docker.io", "blob", "HEAD", 0);
    m.upstream_bytes("docker.io", 11);
    m.rate_limit("docker.io", "192.0.2.1", 100, 99, Some(Duration::from_secs(3600)));
    m.charged("docker.io");
    m.spared("docker.io");
    m.stale("docker.io", "429");
    m.cache(12, 13);
    m.evicted(14);
    m.verified(15);
    m.rotten();
    m.disk_full();
    m.client_refused("allow");
    m.account_failed("r");
    m.limited("r", "pulls");
    m.held_back("r", "abuse");
    m.other_source("r", "s");
    m.mirror_refused("docker.io", "DENIED");
    let _running = (m.fill(), m.tunnel(), m.connection(), m.upstream_open("docker.io"));
    let mut got = samples(&m);
    got.sort();
    assert_eq!(
        got,
        [
            r#"seawall_account_failures_total{registry="r"} 1"#,
            r#"seawall_cache_bytes 12"#,
            r#"seawall_cache_entries 13"#,
            r#"seawall_clients_refused_total{reason="allow"} 1"#,
            r#"seawall_connections 1"#,
            r#"seawall_evictions_total 14"#,
            r#"seawall_fills 1"#,
            r#"seawall_mirror_refused_total{registry="docker.io",code="DENIED"} 1"#,
            r#"seawall_other_sources_total{registry="r",source="s"} 1"#,
            r#"seawall_pulls_charged_total{registry="docker.io"} 1"#,
            r#"seawall_pulls_spared_total{registry="docker.io"} 1"#,
            r#"seawall_ratelimit_held_back_total{registry="r",limit="abuse"} 1"#,
            r#"seawall_ratelimit_limit{registry="docker.io",source="192.0.2.1"} 100"#,
            r#"seawall_ratelimit_refusals_total{registry="r",limit="pulls"} 1"#,
            r#"seawall_ratelimit_remaining{registry="docker.io",source="192.0.2.1"} 99"#,
            r#"seawall_ratelimit_window_seconds{registry="docker.io",source="192.0.2.1"} 3600"#,
            r#"seawall_requests_total{registry="docker.io",kind="manifest",outcome="hit"} 1"#,
            r#"seawall_rotten_total 1"#,
            r#"seawall_served_bytes_total{registry="docker.io",source="cache"} 10"#,
            r#"seawall_stale_total{registry="docker.io",reason="429"} 1"#,
            r#"seawall_tunnels 1"#,
            r#"seawall_uncached_total{reason="disk-full"} 1"#,
            r#"seawall_upstream_bytes_total{registry="docker.io"} 11"#,
            r#"seawall_upstream_open{registry="docker.io"} 1"#,
            r#"seawall_upstream_requests_total{registry="docker.io",kind="blob",method="GET",status="200"} 1"#,
            r#"seawall_upstream_requests_total{registry="docker.io",kind="blob",method="HEAD",status="none"} 1"#,
            r#"seawall_verified_bytes_total 15"#,
        ]
    );
}

#[test]
fn histograms_count_seconds() {
    let m = Metrics::new();
    m.first_byte(Duration::from_millis(20));
    m.resolve(Duration::from_secs(60));
    let got = samples(&m);
    for line in [
        r#"seawall_first_byte_seconds_bucket{le="0.025"} 1"#,
        "seawall_first_byte_seconds_count 1",
        r#"seawall_resolve_seconds_bucket{le="+Inf"} 1"#,
        "seawall_resolve_seconds_sum 60.0",
    ] {
        assert!(got.iter().any(|l| l == line), "{line} is not in {got:#?}");
    }
}

#[test]
fn what_ended_runs_no_more() {
    let m = Metrics::new();
    let first = m.fill();
    let second = m.clone().fill();
    drop(first);
    assert_eq!(samples(&m), ["seawall_fills 1"]);
    drop(second);
    assert_eq!(samples(&m), Vec::<String>::new());
}

#[test]
fn an_upstream_cannot_make_series_without_end() {
    let m = Metrics::new();
    for n in 0..10 * SOURCES {
        m.rate_limit("docker.io", &format!("account {n}"), 100, 99, None);
    }
    assert_eq!(samples(&m).len(), 2 * (SOURCES + 1));
    assert!(m.encode().contains(r#"seawall_ratelimit_limit{registry="docker.io",source="other"} 100"#));
}
