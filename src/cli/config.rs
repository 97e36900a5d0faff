//! `seawall config`: a file to begin with, and what is in force.

mod show;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Subcommand;

use super::load::load_in_force;
use super::log;
use super::serve::ServeArgs;
use crate::config::show::{InForce, Provenance};
use crate::config::starter;

pub(super) const EXAMPLE: &str = "\
Example: begin with a file that has every key, then see what is in force
  seawall config init ./seawall.toml
  seawall config show";

const INIT_EXAMPLE: &str = "\
Example: print it, and see what is new since the last one
  seawall config init - | diff /etc/seawall/seawall.toml -

Example: write it where seawall looks for it, and check what was changed in it
  seawall config init /etc/seawall/seawall.toml
  seawall check -c /etc/seawall/seawall.toml";

const SHOW_EXAMPLE: &str = "\
Example: what is not the default?
  seawall config show -c /etc/seawall/seawall.toml | grep -v '# default$'

Example: how large may the cache become, and who said so?
  seawall config show --json | jq '.keys[\"cache.max_size\"]'";

/// Flags of `config`.
#[derive(clap::Args, Debug)]
pub struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Subcommand, Debug)]
enum ConfigCommand {
    /// Writes a file with every key, its default and what it does, commented out.
    ///
    /// A file that is there already is never written over.
    #[command(after_help = INIT_EXAMPLE)]
    Init(InitArgs),
    /// Prints every value that is in force and where it comes from: file, variable, flag or default.
    ///
    /// Passwords in it are hidden. It takes the flags of serve, and says what serve would do with
    /// them. Exit codes: 0 done, 2 the configuration is wrong.
    #[command(after_help = SHOW_EXAMPLE)]
    Show(ShowArgs),
}

#[derive(clap::Args, Debug)]
struct InitArgs {
    /// Where to write it, - for stdout [default: --config, $SEAWALL_CONFIG, else ./seawall.toml]
    #[arg(value_name = "FILE", conflicts_with = "config")]
    file: Option<PathBuf>,
}

#[derive(clap::Args, Debug)]
struct ShowArgs {
    /// Prints JSON: of each key its value and where it is from
    #[arg(long)]
    json: bool,
    /// The built-in registries too
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    serve: ServeArgs,
}

/// Does what was asked; `file` is that of `--config`.
///
/// # Errors
/// The file is there, or cannot be written; the configuration is wrong.
pub fn run(args: ConfigArgs, file: Option<PathBuf>) -> anyhow::Result<()> {
    match args.command {
        ConfigCommand::Init(args) => init(args, file),
        ConfigCommand::Show(args) => show(&args, file.as_deref()),
    }
}

fn init(args: InitArgs, configured: Option<PathBuf>) -> anyhow::Result<()> {
    let named = || std::env::var_os("SEAWALL_CONFIG").filter(|name| !name.is_empty()).map(PathBuf::from);
    let file = args.file.or(configured).or_else(named).unwrap_or_else(|| PathBuf::from("seawall.toml"));
    if file == Path::new("-") {
        return Ok(std::io::stdout().lock().write_all(starter().as_bytes())?);
    }
    if crate::fs::exists(&file) {
        bail!("{} is there already, and stays as it is. `seawall config init -` prints the starter", file.display());
    }
    // Readable for all, as configuration is: no key of it holds a secret that has no file of its own.
    crate::fs::create_new(&file, 0o644, starter().as_bytes())
        .with_context(|| format!("nothing was written, as {}", crate::fs::user()))?;
    let name = file.display();
    eprintln!("{name} has every key, commented out. Change some, then see: seawall check -c {name}");
    Ok(())
}

fn show(args: &ShowArgs, file: Option<&Path>) -> anyhow::Result<()> {
    let mut shown = load_in_force(file, &args.serve.overrides())?;
    put_log_level(&mut shown);
    let text = match args.json {
        true => show::json(&shown, args.all)?,
        false => show::text(&shown, args.all),
    };
    Ok(std::io::stdout().lock().write_all(text.as_bytes())?)
}

/// `RUST_LOG` wins over the configuration, unless it cannot be understood.
fn put_log_level(shown: &mut InForce) {
    let Some(Ok((said, _))) = log::variable() else { return };
    let sections = shown.groups.iter_mut().filter(|group| group.path == "log");
    for level in sections.flat_map(|group| &mut group.settings).filter(|setting| setting.key == "level") {
        level.value = said.as_str().into();
        level.from = Provenance::Variable("RUST_LOG".into());
    }
}
