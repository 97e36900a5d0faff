//! What the machine allows, against what the configuration wants.

use anyhow::bail;
use tracing::{info, warn};

use crate::config::{Config, MAX_CONNECTIONS};
use crate::fs;
use crate::policy::budget::Descriptors;

/// Without a cache, without a client and without an upstream it has some twenty open.
const FEWEST_DESCRIPTORS: usize = 128;
/// Most layers are larger than what is less than this.
const SMALL: u64 = 64 << 20;

/// As many connections as there are descriptors for.
pub(super) fn fit_descriptors(config: &mut Config) -> anyhow::Result<Descriptors> {
    let (limit, wanted) = (fs::most_descriptors(), config.proxy.max_connections);
    if limit < FEWEST_DESCRIPTORS {
        bail!(
            "{limit} open files are allowed, and {FEWEST_DESCRIPTORS} are needed: raise the hard limit (LimitNOFILE=, ulimit -Hn)"
        );
    }
    let fitting = Descriptors::of(limit, wanted);
    let connections = fitting.connections;
    if connections < wanted {
        let why = "the limit of open files allows fewer connections than clients.max_connections: to have them, raise it (LimitNOFILE=, ulimit -Hn)";
        if wanted == MAX_CONNECTIONS {
            info!(limit, connections, wanted, "{why}");
        } else {
            warn!(limit, connections, wanted, "{why}");
        }
        config.proxy.max_connections = connections;
        config.proxy.max_per_client = config.proxy.max_per_client.min(connections);
    }
    Ok(fitting)
}

/// Refuses limits of the cache under which all of it would go, or nothing could come.
pub(super) fn check_room(config: &Config) -> anyhow::Result<()> {
    let (min_free, max_size) = (config.cache.min_free, config.cache.max_size);
    let size = fs::size_of_file_system(&config.data)?;
    if min_free >= size {
        bail!(
            "cache.min_free is {min_free} bytes, and the file system of {} has {size}: nothing could be kept, and what is there would go",
            config.data.display()
        );
    }
    if max_size < SMALL {
        warn!(max_size, "cache.max_size is less than most layers are long: they are passed through and not kept");
    }
    Ok(())
}
