//! Memory while a hundred transfers of 1 GiB run at once.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures_util::future::try_join_all;

use crate::report::Report;
use crate::servers::Server;
use crate::upstream::Upstream;
use crate::wire::{Open, Target};
use crate::{MIB, Pace};

const TRANSFERS: usize = 100;
const LEN: u64 = 1024 * MIB;
/// Of cold blobs there are fewer than clients: each is a partial file of 1 GiB.
const COLD: u64 = 10;

/// How fast clients read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Appetite {
    All,
    /// A piece now and then: what a server holds back for them stays in its memory.
    Slow,
}

/// Held, cold, and held for clients that are slow.
pub(crate) async fn run(servers: &[Server], upstream: &mut Upstream, pace: Pace, report: &mut Report) -> Result<()> {
    let lasting = Duration::from_secs(if pace == Pace::Quick { 3 } else { 10 });
    let held = upstream.blob("bench/memory", 1, LEN)?;
    let cold = (0..COLD).map(|n| upstream.endless("bench/memory", 0x0c01d + n, LEN)).collect::<Result<Vec<_>>>()?;
    for server in servers {
        for target in [Target::tls(server)?, Target::plain(server)] {
            target.fetch(&path(&held), "*/*", LEN).await.with_context(|| server.name)?;
        }
    }
    type Way = fn(&Server) -> Result<Target>;
    let plain: Way = |server| Ok(Target::plain(server));
    let scenes: [(&str, Way, &[String], Appetite); 5] = [
        ("held, TLS", Target::tls, std::slice::from_ref(&held), Appetite::All),
        ("held, TLS, slow clients", Target::tls, std::slice::from_ref(&held), Appetite::Slow),
        ("held, plain", plain, std::slice::from_ref(&held), Appetite::All),
        ("cold (10 blobs), TLS", Target::tls, &cold[..5], Appetite::All),
        ("cold (10 blobs), TLS, slow clients", Target::tls, &cold[5..], Appetite::Slow),
    ];
    for (what, way, digests, appetite) in scenes {
        for server in servers {
            server.forget_peak();
            let before = server.resident();
            let served = transfers(&way(server)?, digests, appetite, lasting).await;
            let served = served.with_context(|| format!("{what}: {}", server.name))?;
            let mut fact = |figure: &str, unit, value| {
                report.fact("memory", &format!("{what}: {figure}"), server.name, unit, value)
            };
            fact("RSS before", "MiB", before as f64 / 1024.0);
            fact("peak RSS", "MiB", server.peak() as f64 / 1024.0);
            fact("read meanwhile", "MiB", served as f64 / MIB as f64);
        }
        report.tell_facts("memory", what);
    }
    Ok(())
}

fn path(digest: &str) -> String {
    format!("bench/memory/blobs/{digest}")
}

/// Returns how much all of them read in that time; then they hang up.
async fn transfers(target: &Target, digests: &[String], appetite: Appetite, lasting: Duration) -> Result<u64> {
    let until = Instant::now() + lasting;
    let clients = (0..TRANSFERS).map(|n| {
        let (target, path) = (target.clone(), path(&digests[n % digests.len()]));
        tokio::spawn(async move {
            match tokio::time::timeout_at(until.into(), target.open(&path, "*/*")).await {
                Ok(open) => read(open?, appetite, until).await,
                // nginx lets them wait until all of a cold blob is there.
                Err(_) => Ok(0),
            }
        })
    });
    try_join_all(clients).await?.into_iter().sum()
}

async fn read(mut open: Open, appetite: Appetite, until: Instant) -> Result<u64> {
    let mut read = 0;
    while Instant::now() < until && !open.is_whole() {
        if appetite == Appetite::Slow {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        match tokio::time::timeout_at(until.into(), open.piece()).await {
            Ok(n) => read += n?,
            Err(_) => break,
        }
    }
    Ok(read)
}
