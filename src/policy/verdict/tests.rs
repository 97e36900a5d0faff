use proptest::prelude::*;

use super::*;

/// 2026-12-01 09:12 UTC and so many minutes.
fn at(minutes: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_796_116_320 + minutes * 60)
}

fn facts() -> Facts {
    Facts {
        unreachable: Vec::new(),
        limited: Vec::new(),
        quotas: Vec::new(),
        full_since: None,
        distrust: None,
        rotten: 0,
        root_ends: at(400 * 24 * 60),
    }
}

fn quota(remaining: u64) -> Quota {
    let (registry, free_at) = ("docker.io".to_owned(), Some(at(120)));
    Quota { registry, is_account: false, limit: 100, remaining, spent_at: None, free_at }
}

fn said(facts: &Facts, now: SystemTime) -> Vec<String> {
    verdict(facts, now).into_iter().map(|found| format!("{} {}", found.level.symbol(), found.text)).collect()
}

#[test]
fn sentences() {
    let unreachable = |registry: &str, host: &str| Unreachable {
        registry: registry.to_owned(),
        host: host.to_owned(),
        since: at(0),
        why: "connection refused".to_owned(),
        is: Part::Needed,
    };
    let last = "::ffff:10.0.3.17".parse().unwrap();
    let account = ". An account would help: docs/operating.md, \"Docker Hub's quota\".";
    for (facts, now, text) in [
        (facts(), at(5), "✓ Pulls work."),
        (
            Facts { quotas: vec![quota(58)], ..facts() },
            at(5),
            "✓ Pulls work. docker.io: 58 of 100 pulls left until 11:12 UTC.",
        ),
        (
            Facts { quotas: vec![Quota { spent_at: Some(at(60)), ..quota(10) }], ..facts() },
            at(5),
            &format!("! docker.io: 10 of 100 pulls left until 11:12 UTC. At this rate none is at 10:12 UTC{account}"),
        ),
        (
            Facts { quotas: vec![Quota { is_account: true, limit: 200, free_at: None, ..quota(20) }], ..facts() },
            at(5),
            "! docker.io (its account): 20 of 200 pulls left.",
        ),
        (
            Facts {
                limited: vec![Limited {
                    registry: "docker.io".to_owned(),
                    is_account: false,
                    is_abuse: false,
                    until: at(120),
                }],
                quotas: vec![quota(0)],
                ..facts()
            },
            at(5),
            &format!(
                "✗ The quota at docker.io is spent until 11:12 UTC. What is here is served; new images wait{account}"
            ),
        ),
        (
            Facts { unreachable: vec![unreachable("ghcr.io", "ghcr.io")], ..facts() },
            at(5),
            "✗ ghcr.io does not answer since 09:12 UTC: connection refused. What is here is served; what is not here fails.",
        ),
        (
            Facts { unreachable: vec![unreachable("docker.io", "registry-1.docker.io")], ..facts() },
            at(24 * 60),
            "✗ registry-1.docker.io (docker.io) does not answer since 2026-12-01 09:12 UTC: connection refused. What is here is served; what is not here fails.",
        ),
        (
            Facts {
                unreachable: vec![Unreachable { is: Part::Bridged, ..unreachable("docker.io", "cdn.example") }],
                ..facts()
            },
            at(5),
            "! cdn.example (docker.io) does not answer since 09:12 UTC: connection refused. The registry itself can be asked; what needs this host fails, or takes another way.",
        ),
        (
            Facts {
                limited: vec![Limited {
                    registry: "docker.io".to_owned(),
                    is_account: true,
                    is_abuse: true,
                    until: at(6),
                }],
                ..facts()
            },
            at(5),
            "✗ docker.io (its account) answers 429, too many requests: it is left alone until 09:18 UTC. What is here is served; new images wait.",
        ),
        (
            Facts {
                unreachable: ["a.pkg.dev", "b.pkg.dev"]
                    .map(|host| Unreachable { is: Part::Named, ..unreachable("pkg.dev", host) })
                    .to_vec(),
                ..facts()
            },
            at(5),
            "· 2 hosts of pkg.dev that clients asked for do not answer: /api/v1/status names them.",
        ),
        (
            Facts { full_since: Some(at(0)), ..facts() },
            at(5),
            "! Downloads pass through and are not kept since 09:12 UTC: there is no room for them. Look at the disk, cache.max_size and cache.min_free.",
        ),
        (
            Facts { distrust: Some(Distrust { clients: 7, last, at: at(3) }), ..facts() },
            at(5),
            "! 7 clients do not trust seawall's root: their pulls fail, or go past the mirror. Last: 10.0.3.17, 2 minutes ago. To mend it: `seawall setup CLIENT` on those machines.",
        ),
        (
            Facts { distrust: Some(Distrust { clients: 1, last, at: at(5) }), ..facts() },
            at(5),
            "! 1 client does not trust seawall's root: their pulls fail, or go past the mirror. Last: 10.0.3.17, just now. To mend it: `seawall setup CLIENT` on those machines.",
        ),
        (
            Facts { root_ends: at(20 * 24 * 60), ..facts() },
            at(0),
            "! The certificate authority ends in 20 days: `seawall ca renew`, and install it on the clients again.",
        ),
        (
            Facts { root_ends: at(0), ..facts() },
            at(1),
            "✗ The certificate authority ended on 2026-12-01: clients refuse it. `seawall ca renew`, and install it on the clients again.",
        ),
        (
            Facts { rotten: 1, ..facts() },
            at(0),
            "! 1 blob was damaged on disk since the start: set aside, and it is fetched again when wanted. Look at the disk.",
        ),
    ] {
        assert_eq!(said(&facts, now), [text]);
    }
}

#[test]
fn the_worst_comes_first() {
    let limited = Limited { registry: "docker.io".to_owned(), is_account: false, is_abuse: false, until: at(60) };
    let facts = Facts { rotten: 2, full_since: Some(at(0)), limited: vec![limited], ..facts() };
    let levels: Vec<_> = verdict(&facts, at(1)).into_iter().map(|found| found.level).collect();
    assert_eq!(levels, [Level::Outage, Level::Warning, Level::Warning]);
}

proptest! {
    /// Times of anybody, clocks that were set.
    #[test]
    fn any_facts(remaining: u64, limit: u64, seconds in 0_u64..5_000_000_000, now in 0_u64..5_000_000_000, rotten: u64) {
        let time = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let quota = Quota { remaining, limit, spent_at: Some(time(seconds)), ..quota(0) };
        let facts = Facts { quotas: vec![quota], root_ends: time(seconds), full_since: Some(time(seconds)), rotten, ..facts() };
        prop_assert!(!verdict(&facts, time(now)).is_empty());
    }
}
