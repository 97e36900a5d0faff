//! The system's resolver, which blocks a thread for as long as it has no answer: the file system
//! needs those threads, too.

use std::io;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::task::{self, Coalesced};

/// Names that are asked for at a time, of the 512 threads that tokio has for what blocks.
const AT_A_TIME: usize = 32;
/// How long an answer may take: less than `connect_timeout` unless that is set, so that a silent
/// resolver is not taken for a silent host; more than the 5 s after which glibc asks its second
/// name server.
const PATIENCE: Duration = Duration::from_secs(8);

/// `getaddrinfo`, each name asked for once at a time. Clones share what is under way.
#[derive(Clone)]
pub struct System {
    permits: Arc<Semaphore>,
    asking: Arc<Coalesced<String, Found>>,
    ask: fn(&str) -> io::Result<Vec<IpAddr>>,
}

/// The addresses, or an error that all who wait for it get.
type Found = Result<Vec<IpAddr>, (io::ErrorKind, String)>;

impl std::fmt::Debug for System {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the system")
    }
}

impl Default for System {
    fn default() -> System {
        System::asking(|name| Ok((name, 0).to_socket_addrs()?.map(|address| address.ip()).collect()))
    }
}

impl System {
    fn asking(ask: fn(&str) -> io::Result<Vec<IpAddr>>) -> System {
        System { permits: Arc::new(Semaphore::new(AT_A_TIME)), asking: Arc::default(), ask }
    }

    /// Another, with as many look-ups at a time of its own.
    pub(super) fn apart(&self) -> System {
        System::asking(self.ask)
    }

    pub(crate) async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let (permits, ask, owned) = (self.permits.clone(), self.ask, name.to_owned());
        let asking = self.asking.run(name.to_owned(), move || async move {
            // Those who asked have left by then: the lookup is not needed any more.
            let Ok(Ok(permit)) = timeout(PATIENCE, permits.acquire_owned()).await else { return Err(busy()) };
            task::blocking_beside(move || {
                let found = ask(&owned).map_err(|error| (error.kind(), error.to_string()));
                // A lookup cannot be interrupted: its permit is free when it is over, and no
                // sooner.
                drop(permit);
                found
            })
            .await
        });
        let found = timeout(PATIENCE, asking).await.unwrap_or_else(|_| Err(silent()));
        found.map_err(|(kind, why)| io::Error::new(kind, why))
    }
}

fn silent() -> (io::ErrorKind, String) {
    let patience = humantime::format_duration(PATIENCE);
    (io::ErrorKind::TimedOut, format!("the system's resolver does not answer within {patience}"))
}

fn busy() -> (io::ErrorKind, String) {
    (io::ErrorKind::TimedOut, format!("the system's resolver answers none of {AT_A_TIME} other names"))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;
    use parking_lot::{Condvar, Mutex};

    use super::*;

    static ASKED: AtomicUsize = AtomicUsize::new(0);
    static OPEN: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

    fn held(_: &str) -> io::Result<Vec<IpAddr>> {
        ASKED.fetch_add(1, Ordering::SeqCst);
        let mut open = OPEN.0.lock();
        while !*open {
            OPEN.1.wait(&mut open);
        }
        Ok(vec![Ipv4Addr::LOCALHOST.into()])
    }

    /// 600 names without an answer leave threads for files, whether those who asked wait or have
    /// left.
    #[tokio::test]
    async fn a_silent_resolver_holds_few_threads() {
        let system = System::asking(held);
        let names: Vec<String> = (0..600).map(|n| format!("n{n}.test")).collect();
        let all = join_all(names.iter().map(|name| system.lookup(name)));
        assert!(timeout(Duration::from_millis(200), all).await.is_err());
        assert_eq!(ASKED.load(Ordering::SeqCst), AT_A_TIME);
        let read = timeout(Duration::from_secs(5), task::blocking(|| 7)).await;
        assert_eq!(read.unwrap(), 7);
        *OPEN.0.lock() = true;
        OPEN.1.notify_all();
        assert_eq!(system.lookup("n599.test").await.unwrap(), [Ipv4Addr::LOCALHOST]);
    }

    #[tokio::test]
    async fn many_that_ask_for_one_name_ask_once() {
        static TIMES: AtomicUsize = AtomicUsize::new(0);
        let system = System::asking(|_| {
            TIMES.fetch_add(1, Ordering::SeqCst);
            Err(io::Error::new(io::ErrorKind::NotFound, "no such name"))
        });
        let all = join_all((0..50).map(|_| system.lookup("x.test"))).await;
        assert!(all.iter().all(|found| found.as_ref().unwrap_err().to_string() == "no such name"));
        assert_eq!(TIMES.load(Ordering::SeqCst), 1);
    }

    /// What clients name keeps no registry's name waiting.
    #[tokio::test]
    async fn those_apart_do_not_wait_for_each_other() {
        fn silent(name: &str) -> io::Result<Vec<IpAddr>> {
            if name.starts_with("silent") {
                std::thread::sleep(Duration::from_secs(2));
            }
            Ok(vec![Ipv4Addr::LOCALHOST.into()])
        }
        let registries = System::asking(silent);
        let tunnels = registries.apart();
        let names: Vec<String> = (0..2 * AT_A_TIME).map(|n| format!("silent{n}.test")).collect();
        let theirs = join_all(names.iter().map(|name| tunnels.lookup(name)));
        let ours = timeout(Duration::from_secs(1), registries.lookup("registry.test"));
        tokio::select! {
            biased;
            _ = theirs => panic!("they are silent"),
            found = ours => assert_eq!(found.unwrap().unwrap(), [Ipv4Addr::LOCALHOST]),
        }
    }
}
