//! `seawall check`: what the configuration means. Wrong ones do not get here.

use std::fmt::Write as _;

use serde_json::json;

use crate::config::Config;
use crate::policy::registry::Registry;

pub(super) const EXAMPLE: &str = "\
Example: before a restart
  seawall check -c /etc/seawall/seawall.toml && systemctl restart seawall";

/// Flags of `check`.
#[derive(clap::Args, Debug)]
pub struct CheckArgs {
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// Prints the summary to stdout.
///
/// # Errors
/// stdout cannot be written to.
pub fn run(args: &CheckArgs, config: &Config) -> anyhow::Result<()> {
    use std::io::Write as _;
    let summary = if args.json { as_json(config) } else { as_text(config) };
    std::io::stdout().write_all(summary.as_bytes())?;
    Ok(())
}

fn source(config: &Config) -> String {
    config.source.as_ref().map_or_else(|| "built-in defaults".to_owned(), |path| path.display().to_string())
}

/// What is in the CA's directory, without reading the key.
fn ca_state(config: &Config) -> &'static str {
    let there = |name| crate::fs::exists(&config.ca.dir.join(name));
    match (there("ca.crt"), there("ca.key")) {
        (true, true) => "ca.crt and ca.key are there",
        (false, false) => "empty: made at first start",
        (true, false) => "ca.crt is there, ca.key is missing: serve will refuse to start",
        (false, true) => "ca.key is there, ca.crt is missing: serve will refuse to start",
    }
}

fn upstream(registry: &Registry) -> String {
    registry.upstream.as_ref().map_or_else(|| "the host asked for".to_owned(), ToString::to_string)
}

fn joined<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn as_text(config: &Config) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| writeln!(text, "{name:<10} {value}").expect("a String can be written to");
    line("ok", &source(config));
    line("listen", &joined(&config.proxy.listen));
    line("admin", &config.admin.map_or_else(|| "off".to_owned(), |address| address.to_string()));
    line("data", &config.data.display().to_string());
    line("ca", &format!("{}: {}", config.ca.dir.display(), ca_state(config)));
    for (n, registry) in config.registries.iter().enumerate() {
        let hosts = joined(&registry.hosts);
        let name = &registry.name;
        line(if n == 0 { "registries" } else { "" }, &format!("{name}: {hosts} -> {}", upstream(registry)));
    }
    text
}

fn as_json(config: &Config) -> String {
    let registries = config.registries.iter().map(|registry| {
        json!({
            "name": &*registry.name,
            "aliases": registry.aliases,
            "hosts": registry.hosts.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "auth_hosts": registry.auth_hosts.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "upstream": registry.upstream.as_ref().map(ToString::to_string),
        })
    });
    let summary = json!({
        "source": config.source.as_ref().map(|path| path.display().to_string()),
        "listen": config.proxy.listen,
        "admin": config.admin,
        "data": config.data.display().to_string(),
        "ca": { "dir": config.ca.dir.display().to_string(), "state": ca_state(config) },
        "registries": registries.collect::<Vec<_>>(),
    });
    format!("{summary:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Overrides;

    fn config(dir: &std::path::Path) -> Config {
        let path = dir.join("a.toml");
        crate::fs::create_new(&path, 0o600, b"[[registry]]\nname = \"lab\"\nhosts = [\"lab\", \"*.lab.io\"]").unwrap();
        let flags = Overrides { data: Some(dir.join("data").display().to_string()), ..Overrides::default() };
        Config::load(Some(&path), std::iter::empty(), flags).unwrap()
    }

    #[test]
    fn the_summary_says_what_is_meant() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let text = as_text(&config);
        let at = dir.path().display();
        let start = format!(
            "ok         {at}/a.toml\n\
             listen     127.0.0.1:3128\n\
             admin      127.0.0.1:3129\n\
             data       {at}/data\n\
             ca         {at}/data/ca: empty: made at first start\n\
             registries lab: lab, *.lab.io -> the host asked for\n           docker.io: registry-1.docker.io, "
        );
        assert!(text.starts_with(&start), "{text}");
        let value: serde_json::Value = serde_json::from_str(&as_json(&config)).unwrap();
        assert_eq!(value["registries"][1]["upstream"], "https://registry-1.docker.io");
        assert_eq!(value["listen"][0], "127.0.0.1:3128");
    }

    #[test]
    fn half_a_ca_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        crate::fs::create_dir(&config.ca.dir).unwrap();
        crate::fs::create_new(&config.ca.dir.join("ca.crt"), 0o600, b"x").unwrap();
        assert_eq!(ca_state(&config), "ca.crt is there, ca.key is missing: serve will refuse to start");
    }
}
