use super::*;
use crate::upstream::asker::Keyring;

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
    let place = |name: &str| Arc::<str>::from(format!("docker.io/{name}"));
    let (print, now) = (ring.bearer("t"), clock.now());
    logins.proved("docker.io", &login("x"), print, TERM);
    // Before it is hashed, and after.
    ["a", "b", "c"].iter().for_each(|name| logins.granted(print, &place(name)));
    logins.revoked(print, &place("b"));
    assert!(logins.read_by(print, "docker.io/a").is_some_and(|at| at >= now));
    assert_eq!(logins.read_by(print, "docker.io/b"), None);
    settled(&tasks).await;
    logins.revoked(print, &place("c"));
    let id = logins.recognised("docker.io", &login("x")).await.unwrap();
    let read = |name: &str| logins.read(id, &place(name)).is_some();
    assert_eq!(["a", "b", "c", "d"].map(read), [true, false, false, false]);
    for other in [login("y"), Login::Identity(Zeroizing::new("x".into()))] {
        assert_eq!(logins.recognised("docker.io", &other).await, None);
    }
    assert_eq!(logins.recognised("ghcr.io", &login("x")).await, None);
    // What is let read later does not make the login itself newer.
    clock.advance(TERM - COARSE);
    logins.note_place(id, &place("a"), clock.now());
    clock.advance(COARSE);
    assert_eq!(logins.read(id, "docker.io/a"), None);
    logins.prune();
    assert!(logins.0.book.read().is_empty());
}

/// Upstream's no that comes while a login is hashed once more is not lost: what was written of it before is taken out.
#[tokio::test]
async fn a_no_is_heard_while_the_login_is_hashed() {
    let (clock, tasks, ring) = (Clock::system(), Tasks::new(), Keyring::new());
    let logins = logins(&clock, &tasks);
    let app: Arc<str> = "r/app".into();
    let id = logins.hashed(&logins.proof("r", &login("x"))).await.unwrap();
    logins.note_proof(id, clock.now());
    logins.note_place(id, &app, clock.now());
    clock.advance(KNOWN_FOR);
    let print = ring.bearer("t");
    logins.proved("r", &login("x"), print, TERM);
    logins.revoked(print, &app);
    settled(&tasks).await;
    assert_eq!(logins.read(id, "r/app"), None);
    logins.granted(print, &app);
    assert!(logins.read(id, "r/app").is_some());
    let tasks = &logins.0.tasks;
    logins.refused("r", &login("y"), None);
    tasks.drained().await;
    assert!(logins.read(id, "r/app").is_some(), "another password");
    logins.refused("r", &login("x"), None);
    tasks.drained().await;
    assert_eq!(logins.read(id, "r/app"), None);
}

#[test]
fn what_was_written_is_read_again() {
    let (id, now) = (LoginId([0xab; 16]), seconds(Clock::system().now()));
    let written = |age: u64| {
        let place = |name: &str| (key(id, Some(name)), now - age);
        vec![(key(id, None), now - age), place("r/a"), place("r/b"), ("nonsense".to_owned(), now)]
    };
    let load = |term, age| {
        let (clock, tasks) = (Clock::system(), Tasks::new());
        Logins::new(term, Arc::new(Secret::random()), Journal::off(), clock, tasks, written(age))
    };
    assert!(load(TERM, 100).read(id, "r/a").is_some() && load(TERM, 100).knows_some("r"));
    assert_eq!((load(TERM, 100).read(id, "r/c"), load(TERM, 100).knows_some("q")), (None, false));
    assert!(load(TERM, 8000).0.book.read().is_empty(), "too old");
    assert!(load(Duration::ZERO, 0).0.book.read().is_empty(), "off");
}
