//! `seawall ca`: the root, shown, made, renewed, and put where clients look for it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, bail};

use super::writable;
use crate::ca::install::{self, Client};
use crate::ca::{Root, Settings};
use crate::clock::Clock;
use crate::config::DEFAULT_DATA;

pub(super) const EXAMPLE: &str = "\
Example: what clients have to trust, and the fingerprint that they compare
  seawall ca show

Example: the same of the service that the Debian package or the systemd units run
  sudo env SEAWALL_DATA=/var/lib/seawall seawall ca show";

/// The certificate authority whose certificates clients are shown.
#[derive(Debug, clap::Args)]
pub struct CaArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print what the root is: subject, fingerprint, dates, what it may sign for, where it is.
    #[command(after_help = "Example: seawall ca show --json")]
    Show {
        /// Print JSON.
        #[arg(long, conflicts_with = "pem")]
        json: bool,
        /// Print the certificate that clients must trust, in PEM.
        #[arg(long)]
        pem: bool,
    },
    /// Make the root now instead of at the first start, and print what it is.
    ///
    /// A root that is there stays, and is checked as at a start.
    #[command(after_help = "Example: seawall ca init")]
    Init,
    /// Make a new root in place of the one that is there, for what is configured now.
    ///
    /// The old one stays beside it as ca.crt.old and ca.key.old. A running seawall goes on with the
    /// old one until it is restarted. Every client must trust the new one.
    #[command(after_help = "Example: seawall ca renew && seawall ca install")]
    Renew,
    /// Make this machine trust the root: writes it where the system, or one client, looks for it.
    ///
    /// Says what to run and to restart afterwards. Doing it again changes nothing.
    #[command(
        after_help = "Examples: seawall ca install\n          seawall ca install --client docker --root /srv/image"
    )]
    Install {
        /// Root directory of the system to write into.
        #[arg(long, value_name = "DIR", default_value = "/")]
        root: PathBuf,
        /// Who is to trust it: the system's store, or the certs.d directories of one client.
        #[arg(long, value_enum, default_value_t = Target::System)]
        client: Target,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Target {
    /// Debian, Ubuntu, Alpine, RHEL, Fedora, SUSE, Arch.
    System,
    /// /etc/docker/certs.d, one directory per registry.
    Docker,
    /// /etc/containers/certs.d, one directory per registry: podman, skopeo, buildah, CRI-O.
    Containers,
}

/// Runs the command. `registry_hosts` are the hosts of all registries, with a port where it is not
/// 443.
pub fn run(args: CaArgs, settings: &Settings, registry_hosts: &[String]) -> anyhow::Result<()> {
    let now = Clock::system().now();
    let place = Place { settings, service: Path::new(SERVICE), now };
    let result = answer(args, &place, registry_hosts)?;
    Ok(std::io::stdout().lock().write_all(result.as_bytes())?)
}

/// Where systemd's units keep what the service has.
const SERVICE: &str = "/var/lib/seawall";

/// Which CA is meant, and where that of a service would be.
struct Place<'a> {
    settings: &'a Settings,
    service: &'a Path,
    now: SystemTime,
}

/// Runs the command and returns what goes to stdout; what is for people goes to stderr.
fn answer(args: CaArgs, place: &Place<'_>, hosts: &[String]) -> anyhow::Result<String> {
    match args.command {
        Command::Show { json: true, .. } => as_json(&place.existing()?),
        Command::Show { pem: true, .. } => Ok(place.existing()?.certificate_pem()),
        Command::Show { .. } => Ok(describe(&place.existing()?)),
        Command::Init => Ok(describe(&place.made()?)),
        Command::Renew => {
            let root = place.renewed()?;
            eprintln!("An old root is kept as ca.crt.old and ca.key.old: remove them when nobody needs it any more.");
            eprintln!("Now install the new one on every client (`seawall ca install`) and restart seawall.");
            Ok(describe(&root))
        }
        Command::Install { root, client, json } => {
            let client = match client {
                Target::System => Client::System,
                Target::Docker => Client::Docker,
                Target::Containers => Client::Containers,
            };
            let plan = install::plan(&root, client, hosts, &place.existing()?.certificate_pem())?;
            let written =
                plan.write().context("cannot install the root (only the user root may write trust stores)")?;
            if json {
                let report = serde_json::json!({ "files": written, "commands": plan.commands, "notes": plan.notes });
                return Ok(format!("{report:#}\n"));
            }
            plan.commands.iter().for_each(|command| eprintln!("Now run: {command}"));
            plan.notes.iter().for_each(|note| eprintln!("Note: {note}."));
            Ok(written.iter().map(|w| format!("{:<9} {}\n", w.change.as_str(), w.path.display())).collect())
        }
    }
}

impl Place<'_> {
    /// The root that is there.
    fn existing(&self) -> anyhow::Result<Root> {
        Root::load(self.settings, self.now)?.with_context(|| {
            let advice = self.services().unwrap_or_else(|| "`seawall ca init` makes one".to_owned());
            format!("there is no CA in {} yet: {advice}", self.settings.dir.display())
        })
    }

    fn made(&self) -> anyhow::Result<Root> {
        self.may_make()?;
        Ok(Root::load_or_create(self.settings, self.now)?)
    }

    fn renewed(&self) -> anyhow::Result<Root> {
        self.may_make()?;
        writable::for_ca(self.settings)?;
        Ok(Root::renew(self.settings, self.now)?)
    }

    /// # Errors
    /// There is none, and where nobody named a place the service has one: clients would be made to trust
    /// a second root that nothing signs with. Or it cannot be made there.
    fn may_make(&self) -> anyhow::Result<()> {
        if Root::is_there(self.settings)? {
            return Ok(());
        }
        let is_named = self.settings.dir != Path::new(DEFAULT_DATA).join("ca");
        if let (false, Some(service)) = (is_named, self.services()) {
            bail!("{service}. To make another one nevertheless, say where: SEAWALL_CA__DIR=DIR seawall ca init");
        }
        writable::for_ca(self.settings)
    }

    /// Where the service's CA is, if it is another one and may be there, and how to get at it.
    fn services(&self) -> Option<String> {
        let (dir, data) = (self.service.join("ca"), self.service.display());
        let (at, command) = (dir.display(), format!("env SEAWALL_DATA={data} seawall ca …"));
        match crate::fs::is_there(&dir.join("ca.crt")) {
            _ if self.settings.dir == dir => None,
            Ok(false) => None,
            Ok(true) => Some(format!("the service's is in {at}: {command}")),
            Err(_) => {
                let user = crate::fs::user();
                Some(format!("the service's is in {at}, into which {user} may not look: sudo {command}"))
            }
        }
    }
}

fn describe(root: &Root) -> String {
    let day = humantime::format_rfc3339_seconds;
    let mut lines = vec![("subject", root.subject().to_owned())];
    if root.issuer() != root.subject() {
        lines.push(("signs as", root.issuer().to_owned()));
    }
    lines.push(("sha256", root.fingerprint_sha256()));
    lines.push(("from", day(root.not_before()).to_string()));
    lines.push(("until", day(root.not_after()).to_string()));
    lines.push(("file", root.path().display().to_string()));
    let constraints = root.constraints();
    match constraints.is_empty() {
        true => lines.push(("names", "not constrained: it may sign for every name there is".to_owned())),
        false => lines.extend(constraints.into_iter().map(|line| ("names", line))),
    }
    lines.iter().map(|(word, value)| format!("{word:<9} {value}\n")).collect()
}

fn as_json(root: &Root) -> anyhow::Result<String> {
    let day = |time| humantime::format_rfc3339_seconds(time).to_string();
    let value = serde_json::json!({
        "subject": root.subject(),
        "issuer": root.issuer(),
        "fingerprint_sha256": root.fingerprint_sha256(),
        "not_before": day(root.not_before()),
        "not_after": day(root.not_after()),
        "constraints": root.constraints(),
        "path": root.path(),
        "made_by_seawall": root.is_ours(),
    });
    Ok(format!("{value:#}\n"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::ca::Permitted;
    use crate::fs;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: CaArgs,
    }

    fn settings(dir: &tempfile::TempDir) -> Settings {
        let permitted = vec![Permitted::Dns("docker.io".into())];
        Settings { dir: dir.path().join("ca"), permitted, constrained: true, leaf_days: 30 }
    }

    fn ca(settings: &Settings, words: &[&str]) -> anyhow::Result<String> {
        let cli = Cli::try_parse_from(std::iter::once(&"ca").chain(words))?;
        let place = Place { settings, service: Path::new("/nowhere"), now: Clock::system().now() };
        answer(cli.args, &place, &["registry-1.docker.io".to_owned()])
    }

    /// Clients would be made to trust a root that nothing signs with.
    #[test]
    fn no_second_root_is_made_beside_the_services() {
        let dir = tempfile::tempdir().unwrap();
        let service = settings(&dir);
        ca(&service, &["init"]).unwrap();
        let said = |dir_of_ours: &Path, word: &str| {
            let ours = Settings { dir: dir_of_ours.to_owned(), ..settings(&dir) };
            let place = Place { settings: &ours, service: dir.path(), now: Clock::system().now() };
            let args = Cli::try_parse_from(["ca", word]).unwrap().args;
            answer(args, &place, &[]).map_err(|error| format!("{error:#}"))
        };
        let unnamed = Path::new(DEFAULT_DATA).join("ca");
        let at = format!("the service's is in {}: env SEAWALL_DATA={}", service.dir.display(), dir.path().display());
        for word in ["init", "renew", "show"] {
            let said = said(&unnamed, word).unwrap_err();
            assert!(said.contains(&at), "{word}: {said}");
        }
        assert!(!fs::exists(&unnamed));
        assert!(said(&dir.path().join("another"), "init").is_ok(), "whoever names a place means it");
        assert!(said(&service.dir, "init").is_ok(), "the service's itself");
    }

    #[test]
    fn made_shown_installed_renewed() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(&dir);
        let said = ca(&settings, &["show"]).unwrap_err().to_string();
        assert!(said.contains("seawall ca init"), "{said}");
        let made = ca(&settings, &["init"]).unwrap();
        assert_eq!(ca(&settings, &["init"]).unwrap(), made, "what is there stays");
        assert_eq!(ca(&settings, &["show"]).unwrap(), made);
        let pem = fs::read_to_string(&settings.dir.join("ca.crt")).unwrap();
        assert_eq!(ca(&settings, &["show", "--pem"]).unwrap(), pem);
        assert!(ca(&settings, &["show", "--pem", "--json"]).is_err());

        let below = dir.path().join("image");
        let words = ["install", "--client", "containers", "--root", below.to_str().unwrap()];
        assert!(ca(&settings, &words).unwrap().starts_with("made "));
        assert!(ca(&settings, &words).unwrap().starts_with("unchanged "));
        let trusted = below.join("etc/containers/certs.d/registry-1.docker.io/seawall.crt");
        assert_eq!(fs::read(&trusted).unwrap(), fs::read(&settings.dir.join("ca.crt")).unwrap());

        ca(&settings, &["renew"]).unwrap();
        assert_ne!(fs::read(&trusted).unwrap(), fs::read(&settings.dir.join("ca.crt")).unwrap());
        ca(&settings, &words).unwrap();
        assert_eq!(fs::read(&trusted).unwrap(), fs::read(&settings.dir.join("ca.crt")).unwrap());
    }

    #[test]
    fn what_is_shown_is_complete_and_public() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(&dir);
        let root = Root::load_or_create(&settings, Clock::system().now()).unwrap();
        let text = describe(&root);
        for part in [root.subject(), &root.fingerprint_sha256(), "permitted docker.io", "excluded ::/0", "ca.crt"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let json: serde_json::Value = serde_json::from_str(&ca(&settings, &["show", "--json"]).unwrap()).unwrap();
        assert_eq!(json["fingerprint_sha256"], root.fingerprint_sha256());
        assert!(!text.contains("PRIVATE") && !json.to_string().contains("PRIVATE"));
    }
}
