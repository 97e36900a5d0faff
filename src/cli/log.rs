//! Where log lines go: stderr, as text or as JSON.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, LogSettings};

/// Starts logging, once in the life of the process; later calls change nothing. `RUST_LOG` wins
/// over the configuration.
pub fn start(settings: LogSettings) {
    let said = std::env::var("RUST_LOG").ok().filter(|text| !text.is_empty());
    let (filter, wrong) = match said.map(EnvFilter::try_new) {
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (usual(settings), Some(error)),
        None => (usual(settings), None),
    };
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    let started = match settings.format {
        LogFormat::Json => log.json().flatten_event(true).try_init(),
        LogFormat::Text => log.with_ansi(colours()).try_init(),
    };
    if let (Ok(()), Some(error)) = (started, wrong) {
        tracing::warn!(%error, "RUST_LOG is not understood: the configuration's level is used");
    }
}

/// Our own lines at the configured level; of the libraries only what is wrong, unless all is asked
/// for.
fn usual(settings: LogSettings) -> EnvFilter {
    let level = settings.level;
    let others = level.min(tracing::Level::WARN);
    EnvFilter::new(format!("{others},seawall={level}"))
}

/// <https://no-color.org>
fn colours() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_quiet_and_never_louder_than_we_are() {
        let filter = |level| usual(LogSettings { level, format: LogFormat::Text }).to_string();
        assert_eq!(filter(tracing::Level::INFO), "seawall=info,warn");
        assert_eq!(filter(tracing::Level::DEBUG), "seawall=debug,warn");
        assert_eq!(filter(tracing::Level::ERROR), "seawall=error,error");
    }
}
