//! `seawall images`: which images manifests name, and whether they are here; or the same with other
//! names.

mod ask;
mod show;

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::ValueEnum;

use crate::cli::api::AdminArgs;
use crate::config::Config;
use crate::images::rewrite::{Targets, rewrite};
use crate::images::set_image::commands;
use crate::images::used::used;
use crate::images::{Kind, Read, kind, read};

pub(super) const EXAMPLE: &str = "\
Example: what a cluster runs, and what of it could be pulled while its registry is unreachable
  kubectl get pods -A -o json | seawall images

Example: what is going to be deployed
  helm template web ./chart | seawall images

Example: names changed to those of a mirror; comments, quotes and order stay
  seawall images --rewrite seawall.corp:3128 compose.yaml > compose.mirror.yaml
  kubectl get deploy,sts,ds,cj -A -o json |
    seawall images --rewrite seawall.corp:3128

Example: names changed to those of an ECR pull-through cache, or a project of Harbor's
  ECR=123456789012.dkr.ecr.us-east-1.amazonaws.com
  seawall images --rewrite docker.io=$ECR/docker-io compose.yaml
  seawall images --rewrite ghcr.io=harbor.corp/ghcr \\
    --rewrite quay.io=harbor.corp/quay compose.yaml

Nobody has to rename an image to use seawall: HTTPS_PROXY, DNS or a mirror configuration leaves names as they are.";

/// Flags of `images`.
#[derive(clap::Args, Debug)]
pub struct ImagesArgs {
    /// What to read; `-` or nothing is stdin
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// What it is, where its looks deceive
    #[arg(long, value_enum)]
    kind: Option<Named>,
    /// Prints JSON
    #[arg(long, conflicts_with = "rewrite")]
    json: bool,
    /// Prints the same text with the names that images have at seawall's mirror, or for one
    /// registry below a prefix (`rewrite` rules applied); of JSON, the commands of kubectl that set
    /// them. May be given for several registries
    #[arg(long, value_name = "[REGISTRY=]PREFIX", conflicts_with = "admin")]
    rewrite: Vec<Targets>,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Named {
    /// Of `kubectl get -o json`
    Json,
    /// Kubernetes manifests, compose files, output of `helm template`
    Yaml,
    /// A Dockerfile or Containerfile
    Dockerfile,
}

impl Named {
    fn kind(self) -> Kind {
        match self {
            Named::Json => Kind::Json,
            Named::Yaml => Kind::Yaml,
            Named::Dockerfile => Kind::Dockerfile,
        }
    }
}

/// One text, read.
struct Input {
    name: String,
    kind: Kind,
    text: String,
    read: Read,
}

/// Prints the table, the JSON, the rewritten text or the commands to stdout; what is left out, to
/// stderr.
///
/// # Errors
/// A file cannot be read, or is not what it should be. What is in the cache not being known is no
/// error.
pub fn run(args: &ImagesArgs, config: &Config) -> anyhow::Result<()> {
    let inputs = inputs(args)?;
    for input in &inputs {
        for (line, text, why) in &input.read.unread {
            say(&format!("{}: {text}: left out: {why}", input.at(*line)));
        }
    }
    let is_empty = |input: &&Input| input.read.references.is_empty() && input.read.unread.is_empty();
    for input in inputs.iter().filter(is_empty) {
        say(&format!("no image is named in {}", input.name));
    }
    let said = match targets(args, config)? {
        Some(targets) => rewritten(&inputs, config, &targets)?,
        None => table(args, config, &inputs)?,
    };
    std::io::stdout().write_all(said.as_bytes())?;
    Ok(())
}

/// Where names are to lead, if they are to be rewritten.
fn targets(args: &ImagesArgs, config: &Config) -> anyhow::Result<Option<Targets>> {
    if args.rewrite.is_empty() {
        return Ok(None);
    }
    let mut all = Targets::default();
    for one in &args.rewrite {
        all = all.and(one.clone()).map_err(|wrong| anyhow::anyhow!("--rewrite: {wrong}"))?;
    }
    if let Some(unknown) = all.unknown(&config.registries).next() {
        bail!("--rewrite: {unknown} is no registry that is configured: add a [[registry]]");
    }
    Ok(Some(all))
}

/// To stderr. Names are anybody's: they must not move a terminal's cursor.
fn say(what: &str) {
    eprintln!("{}", visible(what));
}

/// Control characters as they are written in Rust.
fn visible(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut visible, c| {
        match c.is_control() {
            true => visible.extend(c.escape_debug()),
            false => visible.push(c),
        }
        visible
    })
}

impl Input {
    fn at(&self, line: usize) -> String {
        if line == 0 { self.name.clone() } else { format!("{}:{line}", self.name) }
    }
}

fn inputs(args: &ImagesArgs) -> anyhow::Result<Vec<Input>> {
    let stdin = [PathBuf::from("-")];
    let files = if args.files.is_empty() { &stdin } else { args.files.as_slice() };
    files.iter().map(|file| input(file, args.kind.map(Named::kind))).collect()
}

fn input(file: &Path, forced: Option<Kind>) -> anyhow::Result<Input> {
    let (name, text) = if file == Path::new("-") {
        if std::io::stdin().is_terminal() {
            eprintln!("reading stdin; `seawall images --help` says what it takes");
        }
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("stdin cannot be read")?;
        ("stdin".to_owned(), text)
    } else {
        (file.display().to_string(), crate::fs::read_to_string(file)?)
    };
    let kind = forced.unwrap_or_else(|| kind(&text));
    let read = read(kind, &text).with_context(|| name.clone())?;
    Ok(Input { name, kind, text, read })
}

fn table(args: &ImagesArgs, config: &Config, inputs: &[Input]) -> anyhow::Result<String> {
    let references = inputs.iter().flat_map(|input| &input.read.references);
    let images = used(references, &config.registries, None);
    let names: Vec<String> = images.iter().map(|image| image.name.to_string()).collect();
    let (cached, failed) = ask::cached(&args.admin, config, &names);
    if let Some(error) = failed {
        say(&format!("what is in the cache is not known: {error:#}"));
    }
    Ok(if args.json { show::json(&images, &cached) } else { show::text(&images, &cached) })
}

/// A text, or the commands for several.
fn rewritten(inputs: &[Input], config: &Config, targets: &Targets) -> anyhow::Result<String> {
    let is_json = |input: &&Input| input.kind == Kind::Json;
    if inputs.len() > 1 && !inputs.iter().all(|input| is_json(&input)) {
        bail!("--rewrite takes one file at a time: what it prints takes the place of that");
    }
    let mut said = String::new();
    for input in inputs {
        if is_json(&input) {
            let commands = commands(&input.text, &config.registries, targets).with_context(|| input.name.clone())?;
            commands.left.iter().for_each(|(object, why)| say(&format!("{object}: left: {why}")));
            commands.lines.iter().for_each(|line| said = std::mem::take(&mut said) + line + "\n");
        } else {
            let rewritten = rewrite(input.kind, &input.text, &input.read, &config.registries, targets);
            for (line, name, why) in &rewritten.kept {
                say(&format!("{}: {name}: left: {why}", input.at(*line)));
            }
            said.push_str(&rewritten.text);
        }
    }
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_foreign_moves_a_cursor() {
        assert_eq!(visible("a\u{1b}[2J\r\n\u{9b}é \"x\""), "a\\u{1b}[2J\\r\\n\\u{9b}é \"x\"");
    }
}
