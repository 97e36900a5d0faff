//! `seawall check`: what the configuration means, what registries say to it, or whether the seawall
//! that runs by it is ready. Wrong ones do not get here.

mod accounts;
mod ask;
mod image;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::Method;
use serde_json::json;

use self::ask::{Asking, Quota};
use self::image::Image;
use super::api::{Place, answer};
use super::serve::reachable;
use super::writable;
use crate::ca::Root;
use crate::clock::Clock;
use crate::config::{Config, builtin};
use crate::dial::loops::{Doubt, Evidence, Loop, Sentence};
use crate::policy::registry::Registry;

pub(super) const EXAMPLE: &str = "\
Example: before a restart
  seawall check -c /etc/seawall/seawall.toml && systemctl restart seawall

Example: what is left of Docker Hub's quota, and what an image names
  seawall check docker.io/library/alpine:3.20

Example: the health check of a container
  seawall check --health";

/// How long `--health` waits for the answer: less than the 5 s after which the Dockerfile's
/// HEALTHCHECK kills it unheard.
const PATIENCE: Duration = Duration::from_secs(3);

/// Flags of `check`.
#[derive(clap::Args, Debug)]
pub struct CheckArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Asks the seawall that runs by this configuration whether it serves pulls; needs its admin
    /// listener
    #[arg(long, conflicts_with_all = ["json", "image", "offline"])]
    health: bool,
    /// Asks no registry: the configuration alone
    #[arg(long, conflicts_with = "image")]
    offline: bool,
    /// Resolves this image too: what it names, or why not
    #[arg(value_name = "IMAGE")]
    image: Option<String>,
}

/// Prints the summary to stdout and what registries say, or asks for health.
///
/// # Errors
/// stdout cannot be written to; it is not healthy; a registry's name leads here; an account is
/// refused; the image is not there. A quota that cannot be asked for is no error.
pub fn run(args: &CheckArgs, config: &Config) -> anyhow::Result<()> {
    use std::io::Write as _;
    if args.health {
        let admin = config.admin.listen.context("there is no admin listener to ask: `admin` is \"\"")?;
        return runtime()?.block_on(health(reachable(admin)));
    }
    servable(config, Clock::system().now())?;
    writable::for_serve(config)?;
    let said = if args.offline { Said::default() } else { runtime()?.block_on(asked(args, config))? };
    let summary = if args.json { as_json(config, &said) } else { as_text(config, &said) };
    std::io::stdout().write_all(summary.as_bytes())?;
    let wrong = said.wrong();
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    Ok(())
}

/// # Errors
/// `serve`, run by this user, would not start with the certificates that are there now.
fn servable(config: &Config, now: SystemTime) -> anyhow::Result<()> {
    Root::load(&config.ca, now)?;
    config.tls.certificate.as_ref().map_or(Ok(()), |certificate| certificate.is_good_at(now))?;
    Ok(())
}

/// Until when the operator's certificate is good.
fn certificate_end(config: &Config) -> Option<String> {
    let certificate = config.tls.certificate.as_ref()?;
    Some(humantime::format_rfc3339_seconds(certificate.not_after()).to_string())
}

/// What registries said.
#[derive(Default)]
struct Said {
    loops: Vec<Loop>,
    /// Hosts that lead to a seawall with this root, which may be another one.
    doubts: Vec<Loop>,
    quotas: Vec<Quota>,
    accounts: Vec<accounts::Asked>,
    image: Option<Image>,
}

impl Said {
    /// Why it exits with 1, a line each: what would fail clients.
    fn wrong(&self) -> Vec<String> {
        let loops = (!self.loops.is_empty()).then(|| Sentence(&self.loops).to_string());
        let refused = self.accounts.iter().filter_map(accounts::Asked::refused);
        let image = self.image.as_ref().and_then(|image| image.found().err());
        loops.into_iter().chain(refused).chain(image).collect()
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

async fn asked(args: &CheckArgs, config: &Config) -> anyhow::Result<Said> {
    let asking = Asking::new(config)?;
    let (doubts, loops) = asking.loops(config).await.into_iter().partition(|found| found.evidence == Evidence::Root);
    let image = match &args.image {
        Some(name) => Some(image::image(&asking, config, name).await?),
        None => None,
    };
    let (quotas, accounts) = (asking.quotas(config).await, accounts::asked(&asking, config).await);
    Ok(Said { loops, doubts, quotas, accounts, image })
}

/// Asks `/readyz` at `admin`.
async fn health(admin: SocketAddr) -> anyhow::Result<()> {
    let place = Place::open(admin);
    let answered = answer(Method::GET, (&place, "/readyz"), Bytes::new(), (PATIENCE, 1024)).await;
    answered.map(drop).with_context(|| format!("not healthy: http://{admin}/readyz"))
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

fn joined<T: ToString>(items: &[T]) -> String {
    texts(items).join(", ")
}

fn texts<T: ToString>(items: &[T]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

/// A line for each that the configuration says something of, and one for all others.
fn registries(config: &Config) -> Vec<String> {
    let described = |registry: &Registry| {
        let account = registry.account.as_ref().map(|account| format!(", account {}", accounts::name(account)));
        let account = account.unwrap_or_default();
        let hosts = joined(&registry.hosts);
        format!("{}: {hosts} -> {}{account}", registry.name, registry.asked_at(accounts::name).join(", "))
    };
    let known: Vec<String> = builtin::registries().iter().map(described).collect();
    let (mut lines, mut others) = (Vec::new(), Vec::new());
    for registry in config.registries.iter() {
        let line = described(registry);
        if known.contains(&line) { others.push(registry.name.clone()) } else { lines.push(line) }
    }
    if !others.is_empty() {
        lines.push(format!("{} (built in)", joined(&others)));
    }
    lines
}

fn as_text(config: &Config, said: &Said) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| writeln!(text, "{name:<10} {value}").expect("a String can be written to");
    line(if said.wrong().is_empty() { "ok" } else { "NOT OK" }, &source(config));
    line("listen", &joined(&config.proxy.listen));
    line("admin", &config.admin.listen.map_or_else(|| "off".to_owned(), |address| address.to_string()));
    line("data", &config.data.display().to_string());
    line("ca", &format!("{}: {}", config.ca.dir.display(), ca_state(config)));
    if !config.tls.names.is_empty() {
        let end = certificate_end(config).map(|end| format!(", certificate good until {end}")).unwrap_or_default();
        line("tls", &format!("{}{end}", joined(&config.tls.names)));
    }
    for (n, registry) in registries(config).iter().enumerate() {
        line(if n == 0 { "registries" } else { "" }, registry);
    }
    for (n, quota) in said.quotas.iter().enumerate() {
        line(if n == 0 { "quota" } else { "" }, &quota.text());
    }
    for (n, account) in said.accounts.iter().enumerate() {
        line(if n == 0 { "accounts" } else { "" }, &account.text());
    }
    if !said.loops.is_empty() {
        line("LOOP", &Sentence(&said.loops).to_string());
    }
    if !said.doubts.is_empty() {
        line("WARNING", &Doubt(&said.doubts).to_string());
    }
    if let Some(image) = &said.image {
        line("image", &image.text());
    }
    text
}

fn as_json(config: &Config, said: &Said) -> String {
    let registries = config.registries.iter().map(|registry| {
        json!({
            "name": &*registry.name,
            "aliases": registry.aliases,
            "hosts": texts(&registry.hosts),
            "auth_hosts": texts(&registry.auth_hosts),
            "upstream": registry.upstream.as_ref().map(ToString::to_string),
            "upstreams": registry.asked_at(accounts::name),
            "account": registry.account.as_ref().map(accounts::name),
            "share": texts(&registry.repositories.share),
            "allow": texts(&registry.repositories.allow),
            "deny": texts(&registry.repositories.deny),
        })
    });
    let wrong = said.wrong();
    let summary = json!({
        "ok": wrong.is_empty(),
        "wrong": wrong,
        "source": config.source.as_ref().map(|path| path.display().to_string()),
        "listen": config.proxy.listen,
        "admin": config.admin.listen,
        "data": config.data.display().to_string(),
        "ca": { "dir": config.ca.dir.display().to_string(), "state": ca_state(config) },
        "tls": { "names": texts(&config.tls.names), "certificate_ends": certificate_end(config) },
        "registries": registries.collect::<Vec<_>>(),
        "loops": said.loops.iter().map(looped).collect::<Vec<_>>(),
        "seawalls": said.doubts.iter().map(looped).collect::<Vec<_>>(),
        "quotas": said.quotas.iter().map(Quota::json).collect::<Vec<_>>(),
        "accounts": said.accounts.iter().map(accounts::Asked::json).collect::<Vec<_>>(),
        "image": said.image.as_ref().map(Image::json),
    });
    format!("{summary:#}\n")
}

fn looped(found: &Loop) -> serde_json::Value {
    json!({ "registry": &*found.registry, "host": found.host.to_string(), "address": found.address })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::admin::{self, Admin, Ready, Stage};
    use crate::config::{AdminSettings, Overrides};
    use crate::metrics::Metrics;
    use crate::operate::jobs::Jobs;
    use crate::task::Tasks;

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
        let text = as_text(&config, &Said::default());
        let at = dir.path().display();
        let start = format!(
            "ok         {at}/a.toml\n\
             listen     127.0.0.1:3128\n\
             admin      127.0.0.1:3129\n\
             data       {at}/data\n\
             ca         {at}/data/ca: empty: made at first start\n\
             registries lab: lab, *.lab.io -> the host asked for\n           docker.io, ghcr.io, "
        );
        assert!(text.starts_with(&start), "{text}");
        let value: serde_json::Value = serde_json::from_str(&as_json(&config, &Said::default())).unwrap();
        assert_eq!(value["registries"][1]["upstream"], "https://registry-1.docker.io");
        assert_eq!(value["listen"][0], "127.0.0.1:3128");
    }

    #[tokio::test]
    async fn healthy_is_what_serves() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (ready, tasks) = (Ready::new(), Tasks::new());
        let (ledger, clock) = (crate::ledger::Ledger::default(), crate::clock::Clock::system());
        let images = admin::Images::default();
        let (metrics, status) = (Metrics::new(), Arc::default());
        let (keys, jobs, hosts) = (admin::Keys::default(), Jobs::default(), Vec::new());
        let shown = ready.clone();
        let admin =
            Admin { metrics, ready: shown, ledger, images, status, clock, hosts, keys, jobs, tasks: tasks.clone() };
        let stop = tasks.clone();
        tasks.spawn(admin::serve(listener, admin, async move { stop.stopping().await }));
        let said = async || health(address).await.map_err(|error| format!("{error:#}"));

        let starting = format!("not healthy: http://{address}/readyz: 503 Service Unavailable: starting");
        assert_eq!(said().await, Err(starting));
        ready.set(Stage::Serving);
        assert_eq!(said().await, Ok(()));
        tasks.stop();
        tasks.drained().await;
        let gone = said().await.unwrap_err();
        assert!(gone.contains("no answer (does seawall run?)") && gone.contains("refused"), "{gone}");
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_not_healthy() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let said = format!("{:#}", health(listener.local_addr().unwrap()).await.unwrap_err());
        assert!(said.ends_with("/readyz: no answer in 3s"), "{said}");
    }

    #[test]
    fn health_needs_an_admin_listener() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { admin: AdminSettings::default(), ..config(dir.path()) };
        let said = run(&CheckArgs { json: false, health: true, offline: false, image: None }, &config)
            .unwrap_err()
            .to_string();
        assert!(said.contains("`admin` is \"\""), "{said}");
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
