//! A long link to the registry: two network namespaces, a TUN device in each, and between them this
//! process, which delays every packet, sends no more than the link can, and loses some. `tc netem`
//! would do, but many kernels are built without it.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tun_rs::{DeviceBuilder, SyncDevice};

use crate::servers::says;

/// Where clients and servers are.
pub(crate) const NEAR: &str = "seawall-peers-near";
/// Where the registry is, at `REGISTRY`.
pub(crate) const FAR: &str = "seawall-peers-far";
/// Of TEST-NET-1 (RFC 5737).
pub(crate) const REGISTRY: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));
const CLIENTS: &str = "192.0.2.1";
const MTU: u16 = 1500;
/// What waits for the link; more is lost.
const QUEUE: Duration = Duration::from_millis(100);

/// How long and how bad it is.
#[derive(Clone, Copy)]
pub(crate) struct Quality {
    pub(crate) round_trip: Duration,
    /// Packets lost of 1,000, either way.
    pub(crate) lost: u64,
    /// Of the link, bytes per second.
    pub(crate) rate: u64,
}

/// The link, until it is dropped.
pub(crate) struct Link;

impl Drop for Link {
    fn drop(&mut self) {
        for namespace in [NEAR, FAR] {
            let _ = ip(&["netns", "delete", namespace]);
        }
    }
}

impl Link {
    /// An error says what is not possible here.
    pub(crate) fn new(quality: Quality) -> Result<Link> {
        for namespace in [NEAR, FAR] {
            let _ = ip(&["netns", "delete", namespace]);
            ip(&["netns", "add", namespace])?;
            ip(&["-n", namespace, "link", "set", "lo", "up"])?;
        }
        let link = Link;
        let near = device("swpeers0", NEAR, CLIENTS)?;
        let far = device("swpeers1", FAR, &REGISTRY.to_string())?;
        relay(near.clone(), far.clone(), quality, 0x9e37_79b9_7f4a_7c15);
        relay(far, near, quality, 0xbf58_476d_1ce4_e5b9);
        Ok(link)
    }
}

fn ip(arguments: &[&str]) -> Result<String> {
    says(Command::new("ip").args(arguments)).with_context(|| format!("ip {}", arguments.join(" ")))
}

fn device(name: &str, namespace: &str, address: &str) -> Result<Arc<SyncDevice>> {
    let device = DeviceBuilder::new().name(name).mtu(MTU).enable(false).build_sync().context("/dev/net/tun")?;
    ip(&["link", "set", name, "netns", namespace])?;
    ip(&["-n", namespace, "address", "add", &format!("{address}/24"), "dev", name])?;
    ip(&["-n", namespace, "link", "set", name, "up", "txqueuelen", "10000"])?;
    Ok(Arc::new(device))
}

/// Packets on their way, each with the time at which it arrives.
#[derive(Default)]
struct Flying {
    packets: Mutex<VecDeque<(Instant, Vec<u8>)>>,
    more: Condvar,
}

/// One direction: a thread that takes, a thread that gives. They end with the process, or when
/// their device has gone.
fn relay(from: Arc<SyncDevice>, to: Arc<SyncDevice>, quality: Quality, seed: u64) {
    let flying = Arc::new(Flying::default());
    let arrives = flying.clone();
    std::thread::spawn(move || take(&from, &flying, quality, seed));
    std::thread::spawn(move || give(&to, &arrives));
}

fn take(from: &SyncDevice, flying: &Flying, quality: Quality, mut seed: u64) {
    let mut room = vec![0; usize::from(MTU) + 64];
    let mut free = Instant::now();
    while let Ok(n) = from.recv(&mut room) {
        let now = Instant::now();
        // When the link has sent what waits before it, and this one.
        let sent = free.max(now) + Duration::from_nanos(n as u64 * 1_000_000_000 / quality.rate);
        if sent - now > QUEUE || chance(&mut seed) % 1000 < quality.lost {
            continue;
        }
        free = sent;
        let mut packets = flying.packets.lock().expect("no panic");
        packets.push_back((sent + quality.round_trip / 2, room[..n].to_vec()));
        flying.more.notify_one();
    }
}

fn give(to: &SyncDevice, flying: &Flying) {
    loop {
        let mut packets = flying.packets.lock().expect("no panic");
        let (due, packet) = loop {
            match packets.pop_front() {
                Some(next) => break next,
                None => packets = flying.more.wait(packets).expect("no panic"),
            }
        };
        drop(packets);
        let wait = due.saturating_duration_since(Instant::now());
        if wait > Duration::from_micros(200) {
            std::thread::sleep(wait);
        }
        let _ = to.send(&packet);
    }
}

/// xorshift64: the same losses every time.
fn chance(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state >> 32
}
