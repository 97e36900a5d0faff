//! How long a start takes, and what a blob costs in memory.

use std::time::Duration;

use crate::common::{Server, median};
use crate::harness::{Pki, Registry};
use crate::{fill, row, title};

const ROUNDS: usize = 5;

struct Start {
    ready: Duration,
    cpu: Duration,
    rss: u64,
}

pub(crate) async fn times(sizes: &[u64]) {
    let pki = Pki::new();
    let registry = Registry::new("registry-1.docker.io").start(&pki).await;
    title("start of the real binary, to its first answer");
    let mut first = None;
    for blobs in sizes {
        let data = fill::directory(*blobs);
        let mut starts = Vec::new();
        for _ in 0..ROUNDS {
            let server = Server::start_on(&data, &pki, &registry, "[cache]\nmax_size = \"1000TiB\"\n");
            let (ready, cpu) = (server.ready, server.cpu());
            tokio::time::sleep(Duration::from_secs(2)).await;
            starts.push(Start { ready, cpu, rss: server.resident() });
        }
        let of = |each: fn(&Start) -> u64| median(starts.iter().map(each).collect());
        let (ready, cpu) = (of(|start| start.ready.as_millis() as u64), of(|start| start.cpu.as_millis() as u64));
        let rss = of(|start| start.rss);
        let (few, base) = *first.get_or_insert((*blobs, rss));
        let each = rss.saturating_sub(base).checked_div(blobs - few);
        let memory = each.map_or(String::new(), |each| format!(", {each} bytes a blob"));
        row(&format!("{blobs} blobs"), &format!("{ready} ms, {cpu} ms of CPU; {} MiB{memory}", rss >> 20));
    }
}
