//! How much of what all share one client may have. Pure: what is held comes in, what may be taken goes
//! out. What cannot be taken back is lent as "as much as is still free": whoever comes next finds a
//! share of any size.

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use super::access::within;
use super::address::Block;
use super::users::UserId;

/// Whose share it is: a user's, wherever they are; else that of an IPv4 address, or of an IPv6 /48,
/// which is what one site is given (RFC 6177) and can take 65,536 /64 from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tenant(Whose);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Whose {
    Own,
    User(UserId),
    At(Block),
}

impl Tenant {
    /// seawall's own.
    pub fn own() -> Tenant {
        Tenant(Whose::Own)
    }

    /// The one that `ip` belongs to.
    pub fn of(ip: IpAddr) -> Tenant {
        Tenant(Whose::At(Block::around(ip, 32, 48)))
    }

    /// Who has shown a password.
    pub fn user(user: UserId) -> Tenant {
        Tenant(Whose::User(user))
    }

    /// What is around an address.
    pub fn around(ip: IpAddr) -> Tenant {
        Tenant::of(ip).block()
    }

    /// What is around it: an IPv4 /24, or an IPv6 /44. Who has many addresses has them there. Around a
    /// user is nothing.
    #[must_use]
    pub fn block(self) -> Tenant {
        match self.0 {
            Whose::At(block) => Tenant(Whose::At(block.widened(24, 44))),
            Whose::Own | Whose::User(_) => self,
        }
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Whose::Own => f.write_str("seawall itself"),
            Whose::User(_) => f.write_str("this user"),
            Whose::At(block) => block.fmt(f),
        }
    }
}

/// Bytes of answers that were given to connections and not written yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unwritten {
    /// Of all answers.
    pub all: u64,
    /// Of those to its tenant.
    pub tenant: u64,
    /// Of those on its connection.
    pub connection: u64,
    /// Of this answer.
    pub answer: u64,
}

/// Of all answers at once.
pub const MOST_UNWRITTEN: u64 = 256 << 20;
/// Of a connection: twice what one stream of HTTP/2 needs for its speed.
pub const MOST_OF_CONNECTION: u64 = 2 << 20;
/// An answer of which nothing is unwritten goes on, whatever others hold: no answer waits for another.
pub const LEAST_OF_ANSWER: u64 = 16 << 10;

impl Unwritten {
    /// Bytes that may be given now; 0: the answer waits until something of it is written.
    pub fn room(self) -> u64 {
        let Unwritten { all, tenant, connection, answer } = self;
        let of_tenant = MOST_UNWRITTEN.saturating_sub(all).saturating_sub(tenant);
        let of_answer = MOST_OF_CONNECTION.saturating_sub(connection).saturating_sub(answer);
        match of_tenant.min(of_answer) {
            room if room >= LEAST_OF_ANSWER => room,
            _ if answer == 0 => LEAST_OF_ANSWER,
            _ => 0,
        }
    }
}

/// Bytes that fills have read and not written, of all of them.
const MOST_BUFFERED: u64 = 64 << 20;

/// Whether a fill may read on that has read so many bytes and not written them, where all together have
/// so many. Who has none may, so that nobody waits for another.
pub fn may_buffer(own: u64, all: u64) -> bool {
    own == 0 || all < MOST_BUFFERED
}

/// How fast something comes.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    since: SystemTime,
    bytes: u64,
}

/// What nobody waits for comes faster than so many bytes in this time, or not at all: a registry that
/// drips would keep its place for days.
const SLOW: u64 = 1 << 20;
const SLOW_IN: Duration = Duration::from_secs(30);

impl Pace {
    /// From now on.
    pub fn new(now: SystemTime) -> Pace {
        Pace { since: now, bytes: 0 }
    }

    /// So many more came. Whether that was slow, over some time that is over now.
    pub fn is_slow(&mut self, now: SystemTime, bytes: u64) -> bool {
        self.bytes += bytes;
        if within(Some(self.since), SLOW_IN, now) {
            return false;
        }
        let came = std::mem::replace(self, Pace::new(now)).bytes;
        came < SLOW
    }
}

/// Requests that are answered at once: each costs some 40 KiB beside its bytes, and a file.
const MOST_ANSWERS: usize = 10_000;

/// How many of what takes descriptors there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptors {
    /// Bodies that come from upstream: a connection and a file each.
    pub transfers: usize,
    /// Requests to hosts that are no registries: a connection each.
    pub forwards: usize,
    /// Answers that are open: a file each.
    pub answers: usize,
    /// Connections of clients: a tunnel has a second one.
    pub connections: usize,
}

/// For files of the cache that are kept open, for records, names, questions, and to say no.
const KEPT: usize = 256;
/// More transfers are no faster, and they are no more than an eighth of what there is: two each.
const MOST_TRANSFERS: usize = 512;

impl Descriptors {
    /// Of so many descriptors, where so many connections are wanted.
    pub fn of(limit: usize, wanted: usize) -> Descriptors {
        let transfers = (limit / 8).clamp(8, MOST_TRANSFERS);
        let answers = (limit / 4).clamp(8, MOST_ANSWERS);
        let forwards = transfers / 4;
        let left = limit.saturating_sub(KEPT.min(limit / 8) + 2 * transfers + forwards + answers);
        Descriptors { transfers, forwards, answers, connections: wanted.min((left / 2).max(8)) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_tenant_is_an_address_or_a_48() {
        let of = |text: &str| Tenant::of(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:ffff::2"));
        assert_ne!(of("2001:db8:1::1"), of("2001:db8:2::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
        assert_eq!(of("2001:db8:1:2::1").to_string(), "2001:db8:1::/48");
        let around = |text: &str| Tenant::around(text.parse().unwrap());
        assert_eq!(around("10.0.0.1"), around("::ffff:10.0.0.255"));
        assert_ne!(around("10.0.0.1"), around("10.0.1.1"));
        assert_eq!(around("2001:db8:1:2::1"), around("2001:db8:a::"));
    }

    #[test]
    fn descriptors_suffice() {
        for (limit, wanted, transfers, answers, connections) in [
            (1 << 20, 10_000, 512, 10_000, 10_000),
            (65_536, 10_000, 512, 10_000, 10_000),
            (20_000, 10_000, 512, 5_000, 6_796),
            (4_096, 10_000, 512, 1_024, 832),
            (1_024, 10_000, 128, 256, 176),
            (1_024, 100, 128, 256, 100),
            (0, 10_000, 8, 8, 8),
        ] {
            let forwards = transfers / 4;
            let expected = Descriptors { transfers, forwards, answers, connections };
            assert_eq!(Descriptors::of(limit, wanted), expected, "{limit}");
            assert!(limit == 0 || 2 * (transfers + connections) + forwards + answers <= limit);
        }
    }

    #[test]
    fn a_pace_is_that_of_half_a_minute() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let mut pace = Pace::new(at(0));
        assert!(!pace.is_slow(at(29), 8));
        assert!(pace.is_slow(at(30), 8));
        assert!(!pace.is_slow(at(60), SLOW));
        assert!(!pace.is_slow(at(89), 8));
        assert!(pace.is_slow(at(90), 8), "what came before is over");
    }

    #[test]
    fn what_may_be_given() {
        for (all, tenant, connection, answer, expected) in [
            (0, 0, 0, 0, 2 * MIB),
            (MIB, MIB, MIB, MIB, 0),
            (MIB, MIB, MIB, 0, MIB),
            (2 * MIB, 2 * MIB, 2 * MIB, 0, LEAST_OF_ANSWER),
            (2 * MIB, 2 * MIB, 2 * MIB, 1, 0),
            (128 * MIB, 128 * MIB, 0, 0, LEAST_OF_ANSWER),
            (128 * MIB, 0, 0, 0, 2 * MIB),
            (300 * MIB, 0, 0, 0, LEAST_OF_ANSWER),
        ] {
            let held = Unwritten { all, tenant, connection, answer };
            assert_eq!(held.room(), expected, "{held:?}");
        }
    }

    proptest! {
        /// Whatever some tenants take, the next finds a share.
        #[test]
        fn a_tenant_never_takes_the_last(takes in prop::collection::vec(0usize..8, 0..4000)) {
            let mut held = [0u64; 8];
            for tenant in takes {
                let all = held.iter().sum();
                let room = Unwritten { all, tenant: held[tenant], connection: 0, answer: 1 }.room();
                held[tenant] += room.min(64 << 10);
            }
            let all: u64 = held.iter().sum();
            prop_assert!(all < MOST_UNWRITTEN);
            prop_assert!(held.iter().all(|held| *held <= MOST_UNWRITTEN / 2 + (64 << 10)));
            let next = Unwritten { all, ..Unwritten::default() };
            prop_assert!(next.room() >= LEAST_OF_ANSWER);
        }
    }
}
