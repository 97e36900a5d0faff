//! A configuration: the file, and after a line `---` variables, `NAME=VALUE` on a line each.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use seawall::config::{Config, Overrides};

/// Production reads a file, and so does this: one for all inputs of a process.
static FILE: LazyLock<PathBuf> =
    LazyLock::new(|| std::env::temp_dir().join(format!("seawall-{}.toml", std::process::id())));

fuzz_target!(|text: &str| {
    let (file, variables) = text.split_once("\n---\n").unwrap_or((text, ""));
    std::fs::write(&*FILE, file).expect("the temporary directory can be written to");
    let pairs = variables.lines().filter_map(|line| line.split_once('='));
    let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
    match Config::load(Some(&FILE), pairs, Overrides::default()) {
        Ok(config) => {
            assert!(!config.proxy.listen.is_empty() && config.proxy.max_connections > 0);
            assert!(!config.upstream.connect_timeout.is_zero() && !config.upstream.idle_timeout.is_zero());
            assert!(config.cache.max_size > 0 && !config.data.as_os_str().is_empty());
            assert!(config.registry_hosts().iter().all(|host| !host.contains('*')));
        }
        Err(error) => {
            assert!(!error.problems().is_empty());
            // Each says where it is: in the file, in a variable, or in what both leave out.
            for problem in error.problems() {
                let said = problem.to_string();
                let places = [FILE.to_str().expect("it is text"), "SEAWALL_", "configuration"];
                assert!(places.iter().any(|place| said.starts_with(place)), "{said}");
            }
        }
    }
});
