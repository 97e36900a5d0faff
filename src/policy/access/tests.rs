//! The rows of the table from which the rules come, and every combination of records that the rules
//! tell apart.

use super::*;
use crate::oci::digest::Algorithm;

const MINUTE: u64 = 60_000_000;
const TTLS: GrantTtls = GrantTtls {
    public: Duration::from_secs(900),
    own: Duration::from_secs(300),
    offline: Duration::from_secs(7000),
    stale: Duration::MAX,
};

fn at(micros: u64) -> Stamp {
    Stamp::from_micros(micros)
}

/// An hour after the events of a row begin.
const NOW: u64 = 60 * MINUTE;

fn now() -> Now {
    Now { at: at(NOW), horizon: Stamp::default() }
}

fn ago(minutes: u64) -> Stamp {
    at(NOW - minutes * MINUTE)
}

fn digest(name: &str) -> Digest {
    Digest::of(Algorithm::Sha256, name.as_bytes())
}

fn here() -> Presence {
    Presence { since: ago(50), last: ago(10), is_delivered: true, ..Presence::default() }
}

fn yes(minutes: u64) -> Option<Yes> {
    Some(Yes { at: ago(minutes), by: None, is_claim: false })
}

fn claim(minutes: u64) -> Option<Yes> {
    Some(Yes { at: ago(minutes), by: Some(digest("manifest")), is_claim: true })
}

fn nothing() -> Evidence {
    Evidence { presence: Some(here()), is_proved: true, ..Evidence::default() }
}

fn open(minutes: u64) -> Evidence {
    Evidence { presence: Some(Presence { open: Some(ago(minutes)), ..here() }), ..nothing() }
}

#[track_caller]
fn expect(evidence: &Evidence, verdict: Verdict, standing: Standing) {
    let permission = evidence.permission(TTLS, now());
    assert_eq!((permission.verdict, permission.standing), (verdict, standing), "{evidence:?}");
}

#[test]
fn rows_1_to_4_what_anonymous_was_granted() {
    expect(&open(0), Verdict::Granted, Standing::Anonymous);
    expect(&open(14), Verdict::Granted, Standing::Anonymous);
    // Rows 2 and 3: asked by its manifest, and it stands while upstream is unreachable.
    let through = Some(Yes { at: ago(15), by: Some(digest("manifest")), is_claim: false });
    let expired = Evidence { anonymous: through, ..open(15) };
    expect(&expired, Verdict::Ask, Standing::Anonymous);
    assert!(expired.by().eq([&digest("manifest")]));
    let refused = Evidence { anonymous_refused: Some(ago(9)), ..open(10) };
    expect(&refused, Verdict::Ask, Standing::None);
    let again = Evidence { anonymous_refused: Some(ago(11)), ..open(10) };
    expect(&again, Verdict::Granted, Standing::Anonymous);
}

#[test]
fn row_5_a_yes_covers_no_other_digest() {
    // Of M2 there is nothing but that it was named: to somebody else.
    expect(&nothing(), Verdict::Ask, Standing::None);
    expect(&Evidence::default(), Verdict::Ask, Standing::None);
}

#[test]
fn rows_6_to_9_a_manifest_grants_what_had_been_named_by_then() {
    let manifest = digest("manifest");
    let named = |since, last| Some(Presence { since: at(since), last: at(last), ..Presence::default() });
    let through = |presence| Yes::through(None, &manifest, at(10), at(5), presence);
    for (presence, is_claim, why) in [
        (named(12, 12), true, "6: named later"),
        (named(10, 10), false, "named just then"),
        (named(8, 9), false, "7"),
        (named(1, 4), true, "8: not named since upstream has the manifest, which may be another's"),
        (None, true, "9: never named"),
    ] {
        let expected = Yes { at: at(10), by: Some(manifest.clone()), is_claim };
        assert_eq!(through(presence), expected, "{why}");
    }
}

#[test]
fn a_listing_never_weakens_what_is_known() {
    let manifest = digest("manifest");
    let covered = Some(Presence { since: at(1), last: at(9), ..Presence::default() });
    let plain = |micros| Yes { at: at(micros), by: None, is_claim: false };
    let by = |micros, is_claim| Yes { at: at(micros), by: Some(manifest.clone()), is_claim };
    for (before, at_, presence, expected) in [
        (plain(3), 7, None, plain(3)),
        (plain(3), 7, covered, by(7, false)),
        (plain(9), 7, covered, plain(9)),
        (by(3, true), 7, None, by(7, true)),
        (by(9, true), 7, None, by(9, true)),
        (by(3, true), 7, covered, by(7, false)),
        (by(9, true), 7, covered, by(7, false)),
    ] {
        assert_eq!(Yes::through(Some(&before), &manifest, at(at_), at(5), presence), expected, "{before:?}");
    }
}

#[test]
fn rows_11_and_14_a_404_is_about_who_asked() {
    // What it ends for one is not there for that one: for others nothing changed.
    expect(&Evidence { own: yes(1), ..nothing() }, Verdict::Granted, Standing::Own);
    expect(&nothing(), Verdict::Ask, Standing::None);
}

#[test]
fn rows_15_to_17_a_claim_opens_the_bytes_of_what_is_public_elsewhere() {
    let claimed = |minutes, is_open, stands| Evidence {
        presence: None,
        own: claim(minutes),
        elsewhere: Elsewhere { is_open, stands },
        ..nothing()
    };
    expect(&claimed(1, true, true), Verdict::Claimed, Standing::Claimed);
    expect(&claimed(1, false, true), Verdict::Ask, Standing::Claimed);
    expect(&claimed(1, false, false), Verdict::Ask, Standing::None);
    expect(&claimed(5, true, true), Verdict::Ask, Standing::None);
    let refused = Evidence { refused: Some(ago(0)), ..claimed(1, true, true) };
    expect(&refused, Verdict::Ask, Standing::None);
}

#[test]
fn row_25_the_clock_was_set_back() {
    // Stamps go on: what is named after a yes is later, and not covered by it.
    let manifest = digest("manifest");
    let named = Presence::named(None, at(11));
    assert!(Yes::through(None, &manifest, at(10), at(1), Some(named)).is_claim);
    let ahead = Now { at: at(NOW), horizon: ago(0) };
    assert_eq!(open(1).permission(TTLS, ahead).verdict, Verdict::Ask, "of any age");
    assert_eq!(open(1).permission(TTLS, ahead).standing, Standing::Anonymous);
}

#[test]
fn row_26_what_the_account_was_granted_stands_for_what_is_shared() {
    let shared = |minutes| Presence { shared: Some(ago(minutes)), ..here() };
    let account = |minutes, is_shared| Evidence { presence: Some(shared(minutes)), is_shared, ..nothing() };
    expect(&account(1, true), Verdict::Granted, Standing::Own);
    expect(&account(50, true), Verdict::Ask, Standing::Login);
    expect(&account(1, false), Verdict::Ask, Standing::None);
    expect(&Evidence { refused: Some(ago(0)), ..account(50, true) }, Verdict::Ask, Standing::None);
}

#[test]
fn a_remembered_login_has_what_was_named_by_then() {
    let login = |minutes| Evidence { login: Some(ago(minutes)), ..nothing() };
    expect(&login(49), Verdict::Ask, Standing::Login);
    expect(&login(50), Verdict::Ask, Standing::Login);
    expect(&login(51), Verdict::Ask, Standing::None);
    expect(&Evidence { presence: None, ..login(1) }, Verdict::Ask, Standing::None);
    let short = GrantTtls { offline: Duration::from_secs(60), ..TTLS };
    assert_eq!(login(1).permission(short, now()).standing, Standing::None);
}

/// Every combination against the rules, told in another way.
#[test]
fn every_combination() {
    let stamps = [None, Some(ago(1)), Some(ago(10)), Some(ago(20))];
    let younger = |at: Option<Stamp>, minutes| at.is_some_and(|at| at > ago(minutes));
    let mut cases = 0;
    for open in stamps {
        for anonymous_refused in [None, Some(ago(5)), Some(ago(15))] {
            for own in [None, yes(1), yes(6), claim(1), claim(6)] {
                for refused in [None, Some(ago(0)), Some(ago(3))] {
                    for (is_open, stands) in [(false, false), (true, true), (false, true)] {
                        for login in [None, Some(ago(2)), Some(ago(55))] {
                            let evidence = Evidence {
                                presence: Some(Presence { open, ..here() }),
                                own: own.clone(),
                                refused,
                                anonymous_refused,
                                login,
                                elsewhere: Elsewhere { is_open, stands },
                                ..nothing()
                            };
                            let valid = open.is_some() && open > anonymous_refused;
                            let good = |yes: &Yes| Some(yes.at) > refused && younger(Some(yes.at), 5);
                            let own_yes = own.as_ref().is_some_and(|yes| !yes.is_claim && good(yes));
                            let claimed = own.as_ref().is_some_and(|yes| yes.is_claim && good(yes));
                            let verdict = match () {
                                () if valid && younger(open, 15) || own_yes => Verdict::Granted,
                                () if claimed && is_open => Verdict::Claimed,
                                () => Verdict::Ask,
                            };
                            let standing = match () {
                                () if valid => Standing::Anonymous,
                                () if own_yes => Standing::Own,
                                () if login == Some(ago(2)) => Standing::Login,
                                () if claimed && stands => Standing::Claimed,
                                () => Standing::None,
                            };
                            expect(&evidence, verdict, standing);
                            cases += 1;
                        }
                    }
                }
            }
        }
    }
    assert_eq!(cases, 4 * 3 * 5 * 3 * 3 * 3);
}

#[test]
fn forever_is_forever_and_the_future_is_not_believed_for_years() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    assert!(within(Some(SystemTime::UNIX_EPOCH), Duration::MAX, now));
    assert!(within(Some(now + Duration::from_secs(1)), Duration::from_secs(60), now));
    assert!(!within(Some(now + Duration::from_secs(60)), Duration::from_secs(60), now));
    assert!(!within(Some(now), Duration::ZERO, now), "a ttl of nothing is never fresh");
}
