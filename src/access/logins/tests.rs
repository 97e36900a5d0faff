use zeroize::Zeroizing;

use super::*;
use crate::upstream::requester::Keyring;

const TERM: Duration = Duration::from_secs(7000);

fn logins(clock: &Clock, tasks: &Tasks) -> Logins {
    let secret = Arc::new(Secret::random());
    Logins::new(TERM, secret, Journal::off(), clock.clone(), tasks.clone(), Vec::new())
}

fn login(password: &str) -> Login {
    Login::Password { username: "alice".into(), password: Zeroizing::new(password.into()) }
}

async fn settled(tasks: &Tasks) {
    tasks.stop();
    tasks.drained().await;
}

#[tokio::test]
async fn a_login_opens_what_it_was_let_read_and_no_other_does() {
    let (clock, tasks, ring) = (Clock::system(), Tasks::new(), Keyring::new());
    let logins = logins(&clock, &tasks);
    let repository = |name: &str| RepositoryKey::from(format!("docker.io/{name}").as_str());
    let (print, now) = (ring.bearer("t"), clock.now());
    logins.proved(&"docker.io".into(), &login("x"), print, TERM);
    // Before it is hashed, and after.
    ["a", "b", "c"].iter().for_each(|name| logins.granted(print, &repository(name), Stamp::at(clock.now())));
    logins.revoked(print, &repository("b"));
    assert!(logins.read_by(print, &"docker.io/a".into()).is_some_and(|at| at >= Stamp::at(now)));
    assert_eq!(logins.read_by(print, &"docker.io/b".into()), None);
    settled(&tasks).await;
    logins.revoked(print, &repository("c"));
    let id = logins.recognised("docker.io", &login("x")).await.unwrap();
    let read = |name: &str| logins.read(id, &repository(name)).is_some();
    assert_eq!(["a", "b", "c", "d"].map(read), [true, false, false, false]);
    for other in [login("y"), Login::Identity(Zeroizing::new("x".into()))] {
        assert_eq!(logins.recognised("docker.io", &other).await, None);
    }
    assert_eq!(logins.recognised("ghcr.io", &login("x")).await, None);
    // What is let read later does not make the login itself newer.
    clock.advance(TERM - COARSE);
    logins.note_repository(id, &repository("a"), Stamp::at(clock.now()));
    clock.advance(COARSE);
    assert_eq!(logins.read(id, &"docker.io/a".into()), None);
    logins.prune();
    assert!(logins.0.book.read().good.is_empty());
}

/// Upstream's no that comes while a login is hashed once more is not lost: what was written of it
/// before is taken out.
#[tokio::test]
async fn a_no_is_heard_while_the_login_is_hashed() {
    let (clock, tasks, ring) = (Clock::system(), Tasks::new(), Keyring::new());
    let logins = logins(&clock, &tasks);
    let app: RepositoryKey = "r/app".into();
    let id = logins.0.hashes.name(&logins.0.hashes.proof("r", &login("x")), Why::Word).await.unwrap();
    logins.note_proof(id, clock.now());
    logins.note_repository(id, &app, Stamp::at(clock.now()));
    clock.advance(hashes::KNOWN_FOR);
    let print = ring.bearer("t");
    logins.proved(&"r".into(), &login("x"), print, TERM);
    logins.revoked(print, &app);
    settled(&tasks).await;
    assert_eq!(logins.read(id, &"r/app".into()), None);
    logins.granted(print, &app, Stamp::at(clock.now()));
    assert!(logins.read(id, &"r/app".into()).is_some());
    let tasks = &logins.0.tasks;
    logins.refused("r", &login("y"), None);
    tasks.drained().await;
    assert!(logins.read(id, &"r/app".into()).is_some(), "another password");
    logins.refused("r", &login("x"), None);
    tasks.drained().await;
    assert_eq!(logins.read(id, &"r/app".into()), None);
}

#[test]
fn what_was_written_is_read_again() {
    let (id, now) = (LoginId([0xab; 24]), seconds(Clock::system().now()));
    let written = |age: u64| {
        let repository = |name: &str| (key(id, Some(&name.into())), (now - age) * 1_000_000);
        vec![(key(id, None), now - age), repository("r/a"), repository("r/b"), ("nonsense".to_owned(), now)]
    };
    let load = |term, age| {
        let (clock, tasks) = (Clock::system(), Tasks::new());
        Logins::new(term, Arc::new(Secret::random()), Journal::off(), clock, tasks, written(age))
    };
    assert!(load(TERM, 100).read(id, &"r/a".into()).is_some() && load(TERM, 100).knows_some("r"));
    assert_eq!((load(TERM, 100).read(id, &"r/c".into()), load(TERM, 100).knows_some("q")), (None, false));
    assert!(load(TERM, 8000).0.book.read().good.is_empty(), "too old");
    assert!(load(Duration::ZERO, 0).0.book.read().good.is_empty(), "off");
}

/// A token that is shown to another registry says nothing of the login that it was issued to.
#[tokio::test]
async fn a_login_is_one_of_one_registry() {
    let (clock, tasks, ring) = (Clock::system(), Tasks::new(), Keyring::new());
    let logins = logins(&clock, &tasks);
    let print = ring.bearer("t");
    logins.proved(&"r".into(), &login("x"), print, TERM);
    logins.granted(print, &"q/app".into(), Stamp::at(clock.now()));
    logins.granted(print, &"r2/app".into(), Stamp::at(clock.now()));
    logins.granted(print, &"r/app".into(), Stamp::at(clock.now()));
    settled(&tasks).await;
    let id = logins.recognised("r", &login("x")).await.unwrap();
    let read = |repository: &str| logins.read(id, &repository.into()).is_some();
    assert_eq!(["q/app", "r2/app", "r/app"].map(read), [false, false, true]);
    assert!(logins.knows_some("r") && !logins.knows_some("q"));
}

/// With more logins to be hashed than may wait, a no takes back what is known of that account, and
/// of no other.
#[tokio::test]
async fn a_no_is_heard_in_a_flood_of_others() {
    let (clock, tasks) = (Clock::system(), Tasks::new());
    let logins = logins(&clock, &tasks);
    let named = |name: &str, password: &str| Login::Password {
        username: name.into(),
        password: Zeroizing::new(password.into()),
    };
    let mut ids = Vec::new();
    for name in ["alice", "bob"] {
        let id = logins.0.hashes.name(&logins.0.hashes.proof("r", &named(name, "x")), Why::Word).await.unwrap();
        logins.note_proof(id, clock.now());
        logins.note_repository(id, &"r/app".into(), Stamp::at(clock.now()));
        ids.push(id);
    }
    clock.advance(hashes::KNOWN_FOR);
    // None of these is in the book, and none costs a hash.
    (0..1000).for_each(|n| logins.refused("r", &named("mallory", &n.to_string()), None));
    assert!(!logins.0.hashes.has_words());
    (0..1000).for_each(|n| logins.refused("r", &named("alice", &n.to_string()), None));
    logins.refused("r", &named("alice", "x"), None);
    settled(&tasks).await;
    let read = |id| logins.read(id, &"r/app".into()).is_some();
    assert_eq!((read(ids[0]), read(ids[1])), (false, true));
}

/// Who shows the login itself (Basic) is refused before it was ever looked up.
#[tokio::test]
async fn a_no_to_a_login_that_was_only_shown_is_heard() {
    let (clock, tasks, ring) = (Clock::system(), Tasks::new(), Keyring::new());
    let logins = logins(&clock, &tasks);
    let (print, app): (_, RepositoryKey) = (ring.bearer("t"), "r/app".into());
    let id = logins.0.hashes.name(&logins.0.hashes.proof("r", &login("x")), Why::Word).await.unwrap();
    let good = || {
        logins.note_proof(id, clock.now());
        logins.note_repository(id, &app, Stamp::at(clock.now()));
    };
    good();
    logins.observe_login(&"r".into(), &login("x"), print);
    logins.revoked(print, &app);
    tasks.stop();
    tasks.drained().await;
    assert_eq!(logins.read(id, &"r/app".into()), None);
    good();
    assert_eq!(logins.read_by(print, &"r/app".into()), None, "nobody looked");
    assert!(logins.recognise("r", &login("x"), print).await);
    assert!(logins.read_by(print, &"r/app".into()).is_some());
    assert!(!logins.recognise("r", &login("x"), print).await, "it is known by now");
    logins.forget_presented(print);
    assert_eq!(logins.read_by(print, &"r/app".into()), None);
}

/// What is written down has an end, whoever reads how much.
#[test]
fn the_books_have_an_end() {
    let clock = Clock::system();
    let logins = logins(&clock, &Tasks::new());
    let id = |n: u32| {
        let mut bytes = [0; 24];
        bytes[..4].copy_from_slice(&n.to_be_bytes());
        LoginId(bytes)
    };
    let most = u32::try_from(MOST_IN_ALL / MOST_REPOSITORIES).unwrap();
    let repository = |n: usize| RepositoryKey::from(format!("r/{n}").as_str());
    for n in 0..=most {
        clock.advance(Duration::from_secs(1));
        logins.note_proof(id(n), clock.now());
        (0..=MOST_REPOSITORIES).for_each(|at| logins.note_repository(id(n), &repository(at), Stamp::at(clock.now())));
    }
    let book = logins.0.book.read();
    assert_eq!(book.repositories, MOST_IN_ALL);
    assert_eq!(book.repositories, book.good.values().map(|good| good.repositories.len()).sum::<usize>());
    assert!(!book.good.contains_key(&id(0)) && book.good.contains_key(&id(1)), "the oldest goes");
}
