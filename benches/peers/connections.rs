//! A new connection for every request, as docker makes it: full handshakes, resumed ones, none.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;

use crate::hot::MANIFEST;
use crate::report::{Report, Sample, Unit};
use crate::servers::Server;
use crate::upstream::Upstream;
use crate::wire::{Keys, Session, Target, Way, trusting};
use crate::{Pace, wire};

/// So many requests are under way at once.
const AT_ONCE: u64 = 8;
const PATH: &str = "bench/connections/manifests/1";

#[derive(Clone, Copy)]
enum Kind {
    Plain,
    Tls(Keys, Session),
    Connect,
}

const KINDS: [(&str, Kind); 6] = [
    ("full handshake, X25519MLKEM768 offered (Go ≥ 1.24)", Kind::Tls(Keys::AsGo, Session::Full)),
    ("full handshake, X25519", Kind::Tls(Keys::Classic, Session::Full)),
    ("resumed, X25519MLKEM768 offered", Kind::Tls(Keys::AsGo, Session::Resumed)),
    ("resumed, X25519", Kind::Tls(Keys::Classic, Session::Resumed)),
    ("CONNECT and a full handshake, X25519MLKEM768", Kind::Connect),
    ("plain", Kind::Plain),
];

impl Kind {
    fn target(self, server: &Server) -> Result<Target> {
        let tls = |keys, session| trusting(&server.ca_pem, keys, session);
        Ok(match self {
            Kind::Plain => Target::plain(server),
            Kind::Tls(keys, session) => Target { address: server.tls, way: Way::Tls(tls(keys, session)?) },
            Kind::Connect => Target { address: server.plain, way: Way::Connect(tls(Keys::AsGo, Session::Full)?) },
        })
    }

    fn session(self) -> Session {
        match self {
            Kind::Tls(_, session) => session,
            Kind::Plain | Kind::Connect => Session::Full,
        }
    }
}

/// A manifest, each time over a connection of its own.
pub(crate) async fn run(servers: &[Server], upstream: &mut Upstream, pace: Pace, report: &mut Report) -> Result<()> {
    let len = upstream.image("bench/connections:1")?;
    let requests = if pace == Pace::Quick { 400 } else { 2000 };
    for (name, kind) in KINDS {
        let case = format!("manifest, a connection each: {name}");
        for _ in 0..pace.rounds() {
            for server in servers.iter().filter(|server| server.is_proxy() || !matches!(kind, Kind::Connect)) {
                let sample = burst(server, kind, (requests / server.slowness).max(AT_ONCE), len).await;
                report.add("connections", &case, server.name, Unit::Request, sample.context(server.name)?);
            }
        }
        report.tell("connections", &case);
    }
    Ok(())
}

async fn burst(server: &Server, kind: Kind, requests: u64, len: u64) -> Result<Sample> {
    // A session of its own for each of those at once, so that none takes another's ticket.
    let targets = (0..AT_ONCE).map(|_| kind.target(server)).collect::<Result<Vec<_>>>()?;
    try_join_all(targets.iter().map(|target| target.fetch(PATH, MANIFEST, len))).await?;
    let (before, began) = (server.cpu(), Instant::now());
    let each = requests / AT_ONCE;
    let all = try_join_all(targets.iter().map(|target| one_after_the_other(target, each, len))).await?;
    let (wall, cpu) = (began.elapsed(), server.cpu() - before);
    let all: Vec<_> = all.into_iter().flatten().collect();
    let as_meant = all.iter().filter(|fetched| fetched.session == kind.session()).count();
    ensure!(as_meant == all.len(), "{as_meant} of {} handshakes were {:?}", all.len(), kind.session());
    let mut latencies: Vec<u64> = all.iter().map(|fetched| fetched.all.as_micros() as u64).collect();
    latencies.sort_unstable();
    let cipher = all.first().map_or(String::new(), |fetched| fetched.agreed.clone());
    Ok(Sample { cpu, bytes: all.len() as u64 * len, requests: all.len() as u64, wall, latencies, cipher })
}

async fn one_after_the_other(target: &Target, requests: u64, len: u64) -> Result<Vec<wire::Fetched>> {
    let mut all = Vec::new();
    for _ in 0..requests {
        all.push(target.fetch(PATH, MANIFEST, len).await?);
    }
    Ok(all)
}
