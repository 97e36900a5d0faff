//! The arguments of `seawall setup`, clients and modes among them.

use std::path::PathBuf;

use clap::builder::PossibleValue;

use crate::setup::{Client, Mode};

/// What points one client at seawall.
#[derive(Debug, clap::Args)]
pub struct SetupArgs {
    /// The client.
    #[arg(value_enum)]
    pub(super) client: Client,
    /// How it comes: by HTTPS_PROXY, by its list of mirrors, or because the registries' names lead
    /// to seawall [default: the first that the client has]
    #[arg(long, value_enum)]
    pub(super) mode: Option<Mode>,
    /// Where the client reaches seawall: HOST:PORT, or a URL where it is spoken to over TLS
    /// [default: what `listen` says]
    #[arg(long, value_name = "HOST:PORT")]
    pub(super) address: Option<String>,
    /// The root that the client is to trust, in PEM [default: the one in the CA's directory, else
    /// http://ADDRESS/ca.crt]
    #[arg(long, value_name = "FILE")]
    pub(super) ca: Option<PathBuf>,
    /// SHA-256 of that root, as `seawall ca show` prints it where seawall runs: --write wants it
    /// for a root that comes from http://ADDRESS/ca.crt
    #[arg(long, value_name = "SHA256")]
    pub(super) ca_sha256: Option<String>,
    /// Write the files below this directory: / for this machine. What others wrote in them stays,
    /// and doing it again changes nothing.
    #[arg(long, value_name = "ROOT")]
    pub(super) write: Option<PathBuf>,
    /// Take back what --write wrote: it may be added to the very command that did
    #[arg(long, requires = "write")]
    pub(super) undo: bool,
    /// Do not ask whether seawall is there: it is going to be
    #[arg(long)]
    pub(super) offline: bool,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

impl clap::ValueEnum for Client {
    fn value_variants<'a>() -> &'a [Client] {
        Client::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let modes: Vec<_> = self.modes().iter().map(|mode| mode.as_str()).collect();
        Some(PossibleValue::new(self.as_str()).help(format!(
            "{} ({})",
            self.about().trim_end_matches('.'),
            modes.join(", ")
        )))
    }
}

impl clap::ValueEnum for Mode {
    fn value_variants<'a>() -> &'a [Mode] {
        &[Mode::Proxy, Mode::Mirror, Mode::Dns]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.as_str()).help(match self {
            Mode::Proxy => "HTTPS_PROXY: every registry, logins too; needs the root",
            Mode::Mirror => "a mirror: public images; in the clear it needs no root",
            Mode::Dns => "the registries' names lead to seawall's port 443; needs the root",
        }))
    }
}
