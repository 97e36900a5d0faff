//! Who pulls most, and what: of requests that were granted and answered alone.

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::time::SystemTime;

use parking_lot::Mutex;

use crate::policy::distinct::Distinct;
use crate::policy::top::{Counted, Weight, Windows};

/// Them.
pub struct Top {
    /// Keyed: no client makes its name collide with another's.
    keys: RandomState,
    lists: Mutex<Lists>,
}

struct Lists {
    images: Windows,
    clients: Windows,
    seen: Distinct,
}

/// Both lists, the most pulls first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leaders {
    /// Repositories: `REGISTRY/REPOSITORY`.
    pub images: Vec<Counted>,
    /// Addresses.
    pub clients: Vec<Counted>,
}

impl Default for Top {
    fn default() -> Top {
        let windows = || Windows::new(SystemTime::UNIX_EPOCH);
        let lists = Lists { images: windows(), clients: windows(), seen: Distinct::default() };
        Top { keys: RandomState::new(), lists: Mutex::new(lists) }
    }
}

impl fmt::Debug for Top {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Top")
    }
}

impl Top {
    /// A pull ended that was granted. No clock is read here, and where both have a counter nothing is
    /// allocated: the lock is held for two look-ups.
    pub fn note(&self, registry: &str, repository: &str, client: IpAddr, weight: Weight) {
        let image_key = self.keys.hash_one((registry, repository));
        let client_key = self.keys.hash_one(client);
        let mut lists = self.lists.lock();
        lists.images.add(image_key, weight, || [registry, "/", repository].concat());
        lists.clients.add(client_key, weight, || client.to_string());
        lists.seen.insert(client_key);
    }

    /// Forgets what was long ago.
    pub fn turn(&self, now: SystemTime) {
        let mut lists = self.lists.lock();
        lists.images.turn(now);
        lists.clients.turn(now);
    }

    /// The clients that came since the last time.
    pub fn take_seen(&self) -> Distinct {
        std::mem::take(&mut self.lists.lock().seen)
    }

    /// So many of each list.
    pub fn leaders(&self, most: usize) -> Leaders {
        let (images, clients) = {
            let lists = self.lists.lock();
            (lists.images.clone(), lists.clients.clone())
        };
        Leaders { images: images.first(most), clients: clients.first(most) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_and_clients_by_pulls() {
        let top = Top::default();
        let client = |n: u8| IpAddr::from([10, 0, 0, n]);
        let pull = Weight { pulls: 1, bytes: 10 };
        top.note("docker.io", "library/a", client(1), pull);
        top.note("docker.io", "library/b", client(1), pull);
        top.note("docker.io", "library/b", client(2), pull);
        top.note("docker.io", "library/b", client(2), Weight { pulls: 0, bytes: 5 });
        top.note("docker.io", "library/c", client(3), Weight { pulls: 0, bytes: 5 });
        let named = |all: Vec<Counted>| -> Vec<(String, u64, u64)> {
            all.into_iter().map(|it| (it.name.into(), it.pulls, it.bytes)).collect()
        };
        let Leaders { images, clients } = top.leaders(9);
        assert_eq!(named(images), [("docker.io/library/b".into(), 2, 25), ("docker.io/library/a".into(), 1, 10)]);
        assert_eq!(named(clients), [("10.0.0.1".into(), 2, 20), ("10.0.0.2".into(), 1, 15)]);
        assert_eq!((top.take_seen().estimate(), top.take_seen().estimate()), (3, 0));
        assert_eq!(top.leaders(1).images.len(), 1);
    }
}
