use proptest::prelude::*;

use super::*;

fn at(millis: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
}

fn failed(how: Failure, since: u64, now: u64) -> Failed {
    Failed { how, sent: at(since), since: at(since), at: at(now) }
}

fn of(subject: u64, client: u8) -> Failure {
    Failure::Of(Asked { subject, client: Tenant::of([10, 0, 0, client].into()) })
}

fn silent(number: u64, client: u8) -> Failure {
    Failure::Silent(number, Asked { subject: number, client: Tenant::of([10, 0, 0, client].into()) })
}

fn fail(breaker: &mut Breaker, began: u64, now: u64) -> Verdict {
    breaker.failed(Pass::Free, failed(Failure::Unreachable, began, now), 1.0)
}

fn open() -> Breaker {
    let mut breaker = Breaker::new(at(0));
    assert_eq!(
        [fail(&mut breaker, 0, 0), fail(&mut breaker, 0, 0), fail(&mut breaker, 0, 0)],
        [Verdict::Nothing, Verdict::Nothing, Verdict::Away]
    );
    breaker
}

#[test]
fn three_in_a_row_open_and_what_overlaps_is_one() {
    for (failures, state) in [
        (vec![(0, 1), (2, 3)], State::Closed),
        (vec![(0, 1), (2, 3), (4, 5)], State::Open),
        // Streams of one connection.
        (vec![(0, 5), (1, 5), (2, 5), (3, 6), (4, 7)], State::Closed),
        (vec![(0, 5), (1, 6), (5, 7), (6, 7), (7, 8)], State::Open),
    ] {
        let mut breaker = Breaker::new(at(0));
        for (began, now) in &failures {
            fail(&mut breaker, *began, *now);
        }
        assert_eq!(breaker.state(), state, "{failures:?}");
    }
}

#[test]
fn an_answer_begins_a_new_row() {
    let mut breaker = Breaker::new(at(0));
    for now in 0..20 {
        assert_eq!(fail(&mut breaker, now, now), Verdict::Nothing);
        assert_eq!(fail(&mut breaker, now, now), Verdict::Nothing);
        assert_eq!(breaker.answered(at(now)), None);
    }
}

#[test]
fn what_one_image_or_one_request_does_opens_nothing() {
    use Failure::{Own, Unreachable};
    for (row, expected) in [
        (vec![of(1, 1); 100], Verdict::Nothing),
        (vec![of(1, 1), of(2, 2), of(1, 2), of(2, 1), of(1, 3)], Verdict::Nothing),
        (vec![of(1, 1), of(2, 1), of(3, 1)], Verdict::Ask),
        (vec![of(1, 1), of(2, 1), of(3, 1), of(4, 2)], Verdict::Ask),
        (vec![of(1, 1), of(2, 1), of(3, 2)], Verdict::Away),
        (vec![of(1, 1), of(2, 1), of(3, 1), Own], Verdict::Away),
        (vec![silent(1, 1); 100], Verdict::Nothing),
        (vec![silent(1, 1), silent(1, 1), silent(2, 1)], Verdict::Ask),
        (vec![silent(1, 1), silent(1, 1), silent(2, 2)], Verdict::Away),
        (vec![silent(1, 1), of(1, 1), Unreachable], Verdict::Ask),
        (vec![Unreachable, Unreachable, Unreachable], Verdict::Away),
    ] {
        let (mut breaker, mut last) = (Breaker::new(at(0)), Verdict::Nothing);
        for (how, now) in row.iter().zip(0..) {
            last = breaker.failed(Pass::Free, failed(*how, now, now), 1.0);
        }
        assert_eq!(last, expected, "{row:?}");
        assert_eq!(breaker.state() == State::Open, expected == Verdict::Away, "{row:?}");
    }
}

/// Whose trial fails for an image of its own keeps nothing closed for the others.
#[test]
fn a_trial_that_fails_makes_seawall_ask() {
    let mut breaker = open();
    let trial = breaker.admit(at(1000)).unwrap();
    assert_eq!(breaker.failed(trial, failed(of(1, 1), 1000, 1000), 1.0), Verdict::Ask);
    assert_eq!(breaker.failed(Pass::Free, failed(Failure::Own, 1000, 1001), 1.0), Verdict::Away);
    let trial = breaker.admit(at(3001)).unwrap();
    assert_eq!(breaker.failed(trial, failed(of(1, 1), 3001, 3001), 1.0), Verdict::Ask);
    assert_eq!(breaker.answered(at(3002)), Some(State::Closed));
}

/// What was swallowed before an outage goes on being silent after it.
#[test]
fn what_was_sent_before_the_last_answer_says_nothing() {
    let mut breaker = open();
    assert_eq!(breaker.answered(at(10)), Some(State::Closed));
    for (now, request) in (20..100).zip([1, 2, 3].into_iter().cycle()) {
        let late = Failed { how: silent(request, 1), sent: at(9), since: at(now), at: at(now) };
        assert_eq!(breaker.failed(Pass::Free, late, 1.0), Verdict::Nothing);
    }
}

#[test]
fn a_trial_at_a_time_ever_later_until_one_is_answered() {
    let mut breaker = open();
    assert_eq!(breaker.since(), at(0));
    let mut now = 0;
    for (n, pause) in [1000, 2000, 4000, 5000, 5000].into_iter().enumerate() {
        let (trial, generation) = (u32::try_from(n).unwrap() + 1, breaker.generation(at(now)));
        assert_eq!(breaker.admit(at(now + pause - 1)), Err(Duration::from_millis(1)));
        now += pause;
        assert_eq!((breaker.generation(at(now)), breaker.admit(at(now))), (generation + 1, Ok(Pass::Trial(trial))));
        assert_eq!((breaker.state(), breaker.generation(at(now))), (State::HalfOpen, generation + 1));
        assert_eq!(breaker.admit(at(now)), Err(LONGEST), "one at a time");
        assert_eq!(fail(&mut breaker, now, now), Verdict::Nothing, "not the trial's");
        let vain = failed(Failure::Unreachable, now, now);
        assert_eq!(breaker.failed(Pass::Trial(trial), vain, 1.0), Verdict::Away);
    }
    assert!(breaker.is_away(at(now + 9999)) && !breaker.is_away(at(now + 10_000)), "5 s after the next trial was due");
    let generation = breaker.generation(at(now));
    assert_eq!(breaker.answered(at(now)), Some(State::Closed));
    assert_eq!((breaker.admit(at(now)), breaker.generation(at(now))), (Ok(Pass::Free), generation), "none comes twice");
}

#[test]
fn a_trial_that_is_given_up_or_says_nothing_keeps_nobody() {
    let mut breaker = open();
    assert_eq!(breaker.admit(at(1000)), Ok(Pass::Trial(1)));
    breaker.given_up(Pass::Trial(1), at(1001));
    assert_eq!(breaker.admit(at(1001)), Ok(Pass::Trial(2)));
    assert_eq!(breaker.admit(at(6001)), Ok(Pass::Trial(3)));
    breaker.given_up(Pass::Trial(2), at(6002));
    let late = failed(Failure::Unreachable, 1001, 6002);
    assert_eq!(breaker.failed(Pass::Trial(2), late, 1.0), Verdict::Nothing, "long past");
    assert_eq!(breaker.state(), State::HalfOpen);
}

proptest! {
    /// Whatever happens: no request is refused for longer than the longest pause, one answer ends
    /// it, trials do not overlap but where one says nothing, and no state is without a way out.
    #[test]
    fn whatever_happens(events in proptest::collection::vec((0u8..5, 0u64..3000, 0.0f64..1.0), 0..200)) {
        let (mut breaker, mut now, mut generation) = (Breaker::new(at(0)), 0, 0);
        let mut trial: Option<(Pass, u64)> = None;
        for (event, later, jitter) in events {
            now += later;
            match event {
                0 => match breaker.admit(at(now)) {
                    Ok(pass @ Pass::Trial(_)) => {
                        prop_assert!(trial.is_none_or(|(_, began)| at(now) >= at(began) + LONGEST));
                        trial = Some((pass, now));
                    }
                    Ok(Pass::Free) => prop_assert_eq!(breaker.state(), State::Closed),
                    Err(wait) => {
                        prop_assert!(breaker.state() != State::Closed && wait <= LONGEST && !wait.is_zero());
                        let (next, mut other) = (at(now) + wait, breaker.clone());
                        prop_assert!(matches!(other.admit(next), Ok(Pass::Trial(_))));
                    }
                },
                1 => { breaker.failed(Pass::Free, failed(silent(later % 3, 1), now, now), jitter); }
                2 => if let Some((pass, began)) = trial.take() {
                    if breaker.failed(pass, failed(of(later, 1), began, now), jitter) == Verdict::Ask {
                        breaker.failed(Pass::Free, failed(Failure::Own, began, now), jitter);
                    }
                    prop_assert!(breaker.state() != State::HalfOpen);
                },
                3 => if let Some((pass, _)) = trial.take() { breaker.given_up(pass, at(now)); },
                _ => {
                    breaker.answered(at(now));
                    trial = None;
                    prop_assert_eq!(breaker.admit(at(now)), Ok(Pass::Free));
                }
            }
            prop_assert!(breaker.generation >= generation);
            generation = breaker.generation;
        }
    }
}
