use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::policy::quota::Cost;

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)
}

fn owner(identity: Identity) -> QuotaOwner {
    QuotaOwner { registry: "docker.io".into(), host: "registry-1.docker.io".into(), identity }
}

fn said(remaining: u64, source: &str) -> RateLimit {
    let source = Some(source.to_owned()).filter(|source| !source.is_empty());
    RateLimit { limit: 100, remaining, window: Some(Duration::from_secs(3600)), source }
}

fn client(n: u8) -> QuotaOwner {
    owner(Identity::Client([n; 16]))
}

/// What a journal would hold.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<BTreeMap<String, Vec<u8>>>>);

impl Written {
    fn keeper(&self) -> Keeper {
        let written = self.0.clone();
        Box::new(move |key, kept| {
            match kept {
                Some(kept) => written.lock().insert(key, serde_json::to_vec(kept).unwrap()),
                None => written.lock().remove(&key),
            };
        })
    }

    fn all(&self) -> Vec<(String, Vec<u8>)> {
        self.0.lock().clone().into_iter().collect()
    }
}

#[test]
fn the_last_word_counts_and_names_are_bounded() {
    let (ledger, anonymous) = (Ledger::default(), owner(Identity::Anonymous));
    ledger.record(&anonymous, &said(99, "a"), at(0), at(0));
    ledger.record(&anonymous, &said(98, "a"), at(1), at(1));
    assert_eq!(ledger.figures(&anonymous).unwrap().remaining, 98);
    for n in 0..3 * bounded::MOST {
        ledger.record(&anonymous, &said(1, &n.to_string()), at(2), at(2));
        ledger.limited(&owner(Identity::Client((n as u128).to_be_bytes())), Limit::Pulls, None, None, at(2));
        ledger.spared(&anonymous.registry, &format!("library/{n}"));
    }
    let report = ledger.report(at(3));
    assert_eq!((report.quotas.len(), report.standing.len()), (bounded::MOST, bounded::MOST));
    let [(_, pulls, repositories)] = &report.pulls[..] else { panic!("{:?}", report.pulls) };
    assert_eq!((pulls.spared, repositories.len()), (3 * bounded::MOST as u64, pulls::REPOSITORIES));
}

/// Many clients push out neither the operator's figures nor the 429 of anonymous requests.
#[test]
fn clients_do_not_push_out_what_is_the_operators() {
    let (ledger, anonymous) = (Ledger::default(), owner(Identity::Anonymous));
    ledger.record(&anonymous, &said(7, "a"), at(0), at(0));
    ledger.limited(&anonymous, Limit::Pulls, Some("a"), None, at(0));
    for n in 0..2 * bounded::MOST {
        let client = owner(Identity::Client((n as u128).to_be_bytes()));
        ledger.record(&client, &said(0, ""), at(1), at(1));
        ledger.limited(&client, Limit::Pulls, None, None, at(1));
    }
    assert_eq!(ledger.figures(&anonymous).unwrap().remaining, 7);
    assert!(ledger.standing(&anonymous, Limit::Pulls, at(1)).is_some());
}

#[test]
fn clients_with_one_source_are_one_and_those_without_are_not() {
    let ledger = Ledger::default();
    ledger.record(&client(1), &said(9, "alice"), at(0), at(0));
    ledger.record(&client(2), &said(8, "alice"), at(1), at(1));
    ledger.record(&client(3), &said(7, ""), at(1), at(1));
    ledger.record(&client(4), &said(6, ""), at(1), at(1));
    let mut left: Vec<_> =
        ledger.report(at(2)).quotas.iter().map(|(a, f)| (a.source.to_string(), f.remaining)).collect();
    left.sort();
    assert_eq!(left, [("".to_owned(), 6), ("".to_owned(), 7), ("alice".to_owned(), 8)]);
    assert!(!format!("{:?}", ledger.report(at(2))).contains("[4,"), "no hash is shown");
}

#[test]
fn a_429_stands_for_who_got_it_until_it_is_over() {
    let (ledger, anonymous) = (Ledger::default(), owner(Identity::Anonymous));
    ledger.record(&anonymous, &said(0, "a"), at(0), at(0));
    let standing = ledger.limited(&anonymous, Limit::Pulls, Some("a"), None, at(10));
    assert_eq!((standing.until, standing.allowed), (at(3600), Some((100, Some(Duration::from_secs(3600))))));
    assert_eq!(ledger.standing(&anonymous, Limit::Pulls, at(3599)), Some(standing));
    for other in [owner(Identity::Account), client(1), QuotaOwner { host: "mirror".into(), ..anonymous.clone() }] {
        assert_eq!(ledger.standing(&other, Limit::Pulls, at(11)), None, "{other:?}");
    }
    assert_eq!(ledger.standing(&anonymous, Limit::Abuse, at(11)), None);
    assert_eq!(ledger.standing(&anonymous, Limit::Pulls, at(3600)), None);
    assert!(ledger.report(at(3600)).standing.is_empty());
    assert!(Limit::Pulls.holds(Cost::Counted));
}

/// HEADs are answered while no pull is left, and say when there are some.
#[test]
fn what_upstream_says_is_over_stands_no_longer() {
    let (ledger, anonymous) = (Ledger::default(), owner(Identity::Anonymous));
    ledger.limited(&anonymous, Limit::Pulls, None, None, at(0));
    ledger.limited(&anonymous, Limit::Abuse, None, Some(Duration::from_secs(30)), at(0));
    ledger.record(&anonymous, &said(0, "a"), at(1), at(1));
    assert!(ledger.standing(&anonymous, Limit::Pulls, at(1)).is_some());
    ledger.record(&anonymous, &said(100, "a"), at(2), at(2));
    assert!(ledger.standing(&anonymous, Limit::Pulls, at(2)).is_none());
    assert!(ledger.standing(&anonymous, Limit::Abuse, at(2)).is_some(), "that is another limit");
}

#[test]
fn token_services_have_books_of_their_own() {
    let (ledger, anonymous) = (Ledger::default(), owner(Identity::Anonymous));
    ledger.record_tokens(&anonymous, &said(3, ""), at(0));
    ledger.limited(&anonymous, Limit::Tokens, None, None, at(0));
    assert_eq!(ledger.figures(&anonymous), None);
    assert_eq!(ledger.standing(&anonymous, Limit::Pulls, at(0)), None);
    let report = ledger.report(at(0));
    assert_eq!((report.quotas.len(), report.tokens.len(), report.standing.len()), (0, 1, 1));
}

#[test]
fn what_is_the_operators_survives_a_restart() {
    let (written, first) = (Written::default(), Ledger::default());
    first.restore(&[], written.keeper(), at(0));
    let (anonymous, account) = (owner(Identity::Anonymous), owner(Identity::Account));
    first.record(&anonymous, &said(10, "192.0.2.1"), at(0), at(0));
    first.record(&account, &said(60, "ci"), at(5), at(5));
    first.limited(&account, Limit::Abuse, Some("ci"), Some(Duration::from_secs(60)), at(5));
    first.record(&client(1), &said(1, "alice"), at(5), at(5));
    first.limited(&client(1), Limit::Pulls, Some("alice"), None, at(5));
    first.charged(&anonymous.registry, "library/alpine");
    first.spared(&anonymous.registry, "library/alpine");
    first.save();
    first.save();
    let all = written.all();
    assert_eq!(all.len(), 4, "{all:?}");
    assert!(!String::from_utf8_lossy(&all.iter().flat_map(|(_, v)| v.clone()).collect::<Vec<_>>()).contains("alice"));

    let second = Ledger::default();
    second.restore(&all, written.keeper(), at(20));
    assert_eq!(second.figures(&anonymous).map(|f| (f.remaining, f.began, f.warned)), Some((10, at(0), 10)));
    assert_eq!(second.figures(&account).map(|f| f.remaining), Some(60));
    assert!(second.standing(&account, Limit::Abuse, at(20)).is_some());
    assert_eq!(second.pulls("docker.io"), Pulls { charged: 1, spared: 1 });
    assert_eq!(&*second.report(at(20)).pulls[0].2[0].0, "library/alpine");

    // What is over is taken out, and so is what cannot be read.
    let mut all = all;
    all.push(("standing x".to_owned(), b"{\"what\":\"standing\"".to_vec()));
    written.0.lock().extend(all.clone());
    let third = Ledger::default();
    third.restore(&all, written.keeper(), at(30 * 86_400));
    assert_eq!(third.report(at(30 * 86_400)).quotas.len(), 0);
    assert_eq!(written.all().len(), 1, "what was counted stays");
}

proptest! {
    #[test]
    fn any_record_of_another_run(value: Vec<u8>, at_ in 0..u64::MAX, until in 0..u64::MAX) {
        let figures = format!(
            r#"{{"what":"figures","registry":"r","host":"h","identity":"account","source":"","limit":1,"remaining":1,"window":{until},"at":{at_},"began":{until},"warned":1}}"#
        );
        let standing = format!(
            r#"{{"what":"standing","registry":"r","host":"h","identity":"anonymous","of":"pulls","until":{until},"source":null,"allowed":[1,{at_}]}}"#
        );
        let ledger = Ledger::default();
        let all = [("a".to_owned(), value), ("b".to_owned(), figures.into()), ("c".to_owned(), standing.into())];
        ledger.restore(&all, Box::new(|_, _| {}), at(0));
        ledger.record(&QuotaOwner { registry: "r".into(), host: "h".into(), identity: Identity::Account }, &said(5, ""), at(9), at(9));
    }
}

/// Tokens last for minutes, the 429 of the account that they belong to holds for hours.
#[test]
fn a_429_stands_for_a_client_with_another_token() {
    let (ledger, [one, two, other]) = (Ledger::default(), [1, 2, 3].map(client));
    ledger.limited(&one, Limit::Pulls, Some("alice"), None, at(0));
    assert_eq!(ledger.standing(&two, Limit::Pulls, at(1)), None, "nobody knows whose that is");
    for (owner, source) in [(&two, "alice"), (&other, "bob")] {
        ledger.record(owner, &said(0, source), at(1), at(1));
    }
    assert!(ledger.standing(&two, Limit::Pulls, at(1)).is_some());
    assert_eq!(ledger.standing(&other, Limit::Pulls, at(1)), None);
    assert_eq!(ledger.figures(&two), ledger.figures(&one));
    ledger.record(&two, &said(9, "alice"), at(2), at(2));
    assert_eq!(ledger.standing(&one, Limit::Pulls, at(2)), None, "what is over is over for her");
    // Upstream names no source in its 429: it holds for that token, and goes on when the source is
    // named.
    ledger.limited(&client(4), Limit::Pulls, None, None, at(0));
    ledger.record(&client(4), &said(0, "carol"), at(1), at(1));
    assert!(ledger.standing(&client(4), Limit::Pulls, at(1)).is_some());
}

/// A HEAD that was answered before the last pull was taken says that one is left.
#[test]
fn what_upstream_said_before_a_429_does_not_end_it() {
    let (ledger, anonymous) = (Ledger::default(), owner(Identity::Anonymous));
    ledger.limited(&anonymous, Limit::Pulls, None, None, at(5));
    ledger.record(&anonymous, &said(1, "a"), at(4), at(6));
    assert!(ledger.standing(&anonymous, Limit::Pulls, at(6)).is_some());
    ledger.record(&anonymous, &said(1, "a"), at(5), at(6));
    assert_eq!(ledger.standing(&anonymous, Limit::Pulls, at(6)), None);
}

#[test]
fn an_end_that_upstream_did_not_say_is_doubted_once_a_minute() {
    let (ledger, anonymous) = (Ledger::default(), owner(Identity::Anonymous));
    assert!(!ledger.doubts(&anonymous, at(0)));
    ledger.record(&anonymous, &said(0, "a"), at(0), at(0));
    ledger.limited(&anonymous, Limit::Pulls, None, None, at(0));
    assert!(!ledger.doubts(&anonymous, at(59)) && !ledger.would_doubt(&anonymous, at(59)));
    assert!(ledger.would_doubt(&anonymous, at(60)) && ledger.doubts(&anonymous, at(60)));
    assert!(!ledger.doubts(&anonymous, at(61)), "somebody asks");
    ledger.record(&anonymous, &said(0, "a"), at(100), at(100));
    assert!(!ledger.doubts(&anonymous, at(159)) && ledger.doubts(&anonymous, at(160)), "it was said to stand");
    assert!(!ledger.doubts(&anonymous, at(3600)), "it is over");
    for (limit, wait) in [(Limit::Pulls, Some(Duration::from_secs(600))), (Limit::Abuse, None), (Limit::Tokens, None)] {
        ledger.limited(&client(1), limit, None, wait, at(0));
        assert!(!ledger.doubts(&client(1), at(599)), "{limit:?}");
    }
}

#[test]
fn a_repository_is_uncounted_where_others_are_counted() {
    let (ledger, anonymous) = (Ledger::default(), owner(Identity::Anonymous));
    ledger.counts_not(&anonymous, "library/a");
    assert!(!ledger.is_uncounted(&anonymous, "library/a"), "this registry says nothing of quotas");
    ledger.record(&anonymous, &said(0, "a"), at(0), at(0));
    assert!(ledger.is_uncounted(&anonymous, "library/a") && !ledger.is_uncounted(&anonymous, "library/b"));
    assert!(!ledger.is_uncounted(&owner(Identity::Account), "library/a"));
    ledger.counts(&anonymous, "library/a");
    assert!(!ledger.is_uncounted(&anonymous, "library/a"));
}

#[test]
fn pulls_that_are_not_answered_yet_are_taken_off_what_is_left() {
    let (ledger, anonymous) = (Ledger::default(), owner(Identity::Anonymous));
    ledger.record(&anonymous, &said(12, "a"), at(0), at(0));
    let spend = |aim| ledger.spend(&anonymous, 10, aim, at(0)).map_err(|figures| figures.remaining);
    let (one, two) = (spend(Aim::Floating).unwrap(), spend(Aim::Floating).unwrap());
    assert_eq!(spend(Aim::Floating).map(drop), Err(12));
    drop(spend(Aim::Pinned).unwrap());
    drop(one);
    spend(Aim::Floating).unwrap();
    drop(two);
    assert!(ledger.0.lock().pending.of(&anonymous) == 0);
}
