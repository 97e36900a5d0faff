//! The command line: one file per command. Messages for people go to stderr, results to stdout.

mod admin_address;
mod api;
pub mod ca;
pub mod cache;
pub mod check;
pub mod config;
pub mod images;
mod jobs;
mod load;
pub mod log;
pub mod serve;
pub mod setup;
pub mod status;
mod writable;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use self::load::load;
use crate::config::{ConfigError, Overrides};
use crate::error::chain;

/// A transparent caching HTTPS forward proxy for container registries.
///
/// It stands between container clients and the registries they pull from: one pull from upstream
/// serves everybody, and pulls go on while a registry is unreachable. Image names stay as they are.
#[derive(Parser, Debug)]
#[command(version, after_help = EXAMPLE, propagate_version = true)]
pub struct Cli {
    /// The configuration file [default: $SEAWALL_CONFIG, ./seawall.toml, /etc/seawall/seawall.toml,
    /// else built-in defaults]
    #[arg(short, long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLE: &str = "\
Example: start it, then pull through it
  seawall serve
  curl --proxy http://127.0.0.1:3128 --cacert seawall-data/ca/ca.crt \\
    https://registry-1.docker.io/v2/

Exit codes: 0 done, 1 failed, 2 usage or configuration.";

const COMPLETIONS: &str = "\
Example: for bash, from the next login on
  seawall completions bash > ~/.local/share/bash-completion/completions/seawall";

/// The commands of seawall.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Runs the proxy until it is asked to stop.
    ///
    /// SIGTERM or SIGINT lets what runs finish, up to drain_timeout; a second one ends it at once.
    #[command(after_help = serve::EXAMPLE)]
    Serve(serve::ServeArgs),
    /// Reads the configuration, says what it means or what is wrong with it, and ends.
    #[command(after_help = check::EXAMPLE)]
    Check(check::CheckArgs),
    /// Writes a configuration file to begin with, or shows what is in force.
    #[command(after_help = config::EXAMPLE)]
    Config(config::ConfigArgs),
    /// Lists the images that manifests, compose files and Dockerfiles name, and what of them is in
    /// the cache.
    ///
    /// Reads the JSON of `kubectl get -o json`, YAML, compose files and Dockerfiles, recognized by
    /// their content.
    #[command(after_help = images::EXAMPLE)]
    Images(images::ImagesArgs),
    /// Says how the seawall that runs does: what is wrong, since when, and what to do.
    #[command(after_help = status::EXAMPLE)]
    Status(status::StatusArgs),
    /// Looks after what is in the cache.
    #[command(after_help = cache::EXAMPLE)]
    Cache(cache::CacheArgs),
    /// Shows, makes and installs the certificate authority that clients have to trust.
    #[command(after_help = ca::EXAMPLE)]
    Ca(ca::CaArgs),
    /// Prints what a shell completes the command line with.
    #[command(after_help = COMPLETIONS)]
    Completions {
        /// For which
        shell: clap_complete::Shell,
    },
    /// Prints the files and commands that point one client at seawall, or writes the files.
    #[command(after_help = setup::EXAMPLE)]
    Setup(setup::SetupArgs),
}

impl Cli {
    /// Does what was asked. Errors go to stderr; the exit code is 0, or 1 for a failure, or 2 for
    /// the configuration.
    pub fn run(self) -> ExitCode {
        let result = match self.command {
            Command::Serve(args) => load(self.config, args.overrides()).and_then(serve::run),
            Command::Check(args) => {
                load(self.config, Overrides::default()).and_then(|config| check::run(&args, &config))
            }
            Command::Config(args) => config::run(args, self.config),
            Command::Images(args) => {
                load(self.config, Overrides::default()).and_then(|config| images::run(&args, &config))
            }
            Command::Status(args) => {
                load(self.config, Overrides::default()).and_then(|config| status::run(&args, &config))
            }
            Command::Cache(args) => {
                load(self.config, Overrides::default()).and_then(|config| cache::run(&args, &config))
            }
            Command::Ca(args) => load(self.config, Overrides::default())
                .and_then(|config| ca::run(args, &config.ca, &config.registry_hosts())),
            Command::Completions { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut Cli::command(), "seawall", &mut script);
                std::io::stdout().write_all(&script).map_err(anyhow::Error::from)
            }
            Command::Setup(args) => {
                load(self.config, Overrides::default()).and_then(|config| setup::run(&args, &config))
            }
        };
        match result {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => match error.downcast_ref::<ConfigError>() {
                Some(wrong) => {
                    wrong.problems().iter().for_each(|problem| eprintln!("{}", log::printable(&problem.to_string())));
                    ExitCode::from(2)
                }
                None => {
                    eprintln!("seawall: {}", chain(error.to_string(), error.source()));
                    ExitCode::FAILURE
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_of_ours_shows_an_example() {
        for mut command in Cli::command().get_subcommands().cloned() {
            let help = command.render_long_help().to_string();
            assert!(help.contains("Example"), "{help}");
        }
    }

    /// clap wraps at the terminal's width, where a shell would run what is left of the line.
    #[test]
    fn examples_can_be_pasted_from_a_terminal_of_80_columns() {
        let mut commands = vec![Cli::command()];
        while let Some(command) = commands.pop() {
            commands.extend(command.get_subcommands().cloned());
            let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            for line in examples.lines().filter(|line| line.starts_with(' ')) {
                assert!(line.chars().count() < 80, "{}: {line}", command.get_name());
            }
        }
    }

    #[test]
    fn flags_reach_the_configuration() {
        let line =
            ["seawall", "serve", "-c", "x.toml", "--listen", "[::1]:1", "--listen", "127.0.0.1:1", "--data", "d"];
        let cli = Cli::try_parse_from(line).unwrap();
        assert_eq!(cli.config, Some(PathBuf::from("x.toml")));
        let Command::Serve(args) = cli.command else { panic!("not serve") };
        let overrides = args.overrides();
        assert_eq!(overrides.listen, ["[::1]:1", "127.0.0.1:1"]);
        assert_eq!((overrides.admin, overrides.data.as_deref()), (None, Some("d")));
    }
}
