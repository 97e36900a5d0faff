use super::*;
use crate::oci::digest::Algorithm;

fn digest() -> Digest {
    Digest::of(Algorithm::Sha256, b"x")
}

fn lead(flights: &Flights) -> Lead {
    match flights.join(&digest(), || None) {
        Joined::Lead(lead) => lead,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_lead_that_is_dropped_fails_its_followers_and_frees_the_key() {
    let flights = Flights::default();
    let lead_of_all = lead(&flights);
    let Joined::Follow(follower) = flights.join(&digest(), || None) else { panic!("a second lead") };
    drop(lead_of_all);
    assert_eq!(follower.flight().flowing().await.unwrap_err().kind(), Kind::Ours);
    assert_eq!(flights.count(), 0);
    drop(lead(&flights));
}

#[tokio::test]
async fn a_failure_is_everybodys() {
    let flights = Flights::default();
    let lead_of_all = lead(&flights);
    let flight = lead_of_all.flight().clone();
    lead_of_all.fail(Error::new(Kind::Missing, "no"));
    assert_eq!(flight.verified().await.unwrap_err().kind(), Kind::Missing);
}

/// A refusal is shared by those whom upstream would answer the same, and by no others.
#[test]
fn a_flight_knows_whom_upstream_was_asked_for() {
    let flights = Flights::default();
    let asking = || {
        let (credential, kind, cost) = (Credential::Anonymous, ContentKind::Blob, Arc::default());
        Some(Asking { key: "ghcr.io/a".into(), credential, kind, cost, since: SystemTime::UNIX_EPOCH })
    };
    let Joined::Lead(lead_of_all) = flights.join_asking(&digest(), || None, asking) else { panic!("it is free") };
    assert!(lead_of_all.flight().was_asked_for(&"ghcr.io/a".into(), Credential::Anonymous, ContentKind::Blob));
    assert!(!lead_of_all.flight().was_asked_for(&"ghcr.io/b".into(), Credential::Anonymous, ContentKind::Blob));
    let keyring = crate::upstream::requester::Keyring::new();
    let basic = http::HeaderValue::from_static("Basic eDp5");
    let somebody = keyring.requester(Some(&basic), std::time::SystemTime::UNIX_EPOCH).credential;
    assert!(!lead_of_all.flight().was_asked_for(&"ghcr.io/a".into(), somebody, ContentKind::Blob));
}

/// Whoever hears of a failure and tries again at once leads; it does not follow what failed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_flight_is_not_found_again() {
    for _ in 0..1000 {
        let flights = Flights::default();
        let lead_of_all = lead(&flights);
        let mut watch = lead_of_all.flight().watch();
        let failing = std::thread::spawn(move || lead_of_all.fail(Error::new(Kind::Refused, "no")));
        watch.changed().await.unwrap();
        drop(lead(&flights));
        failing.join().unwrap();
        assert_eq!(flights.count(), 0);
    }
}

/// Invariant 3: joining looks again under the lock.
#[test]
fn joining_looks_again() {
    let flights = Flights::default();
    let index = crate::store::index::Index::new(crate::records::Journal::off());
    let lead_of_all = lead(&flights);
    drop(index.insert(&digest(), 1, None, std::time::SystemTime::UNIX_EPOCH));
    lead_of_all.verify(1);
    lead_of_all.land(None);
    let joined = flights.join(&digest(), || index.hold(&digest(), std::time::SystemTime::UNIX_EPOCH));
    assert!(matches!(joined, Joined::Held(_)));
}
