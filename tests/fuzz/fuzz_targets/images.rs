//! What manifests, compose files and Dockerfiles name. Rewritten, they can be read again, name as
//! many, and are rewritten no further.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use seawall::config::{Config, Overrides};
use seawall::images::rewrite::{Targets, rewrite};
use seawall::images::set_image::commands;
use seawall::images::used::used;
use seawall::images::{Kind, kind, read};
use seawall::policy::registry::Registries;

/// Those built in.
static REGISTRIES: LazyLock<Registries> = LazyLock::new(|| {
    let none = std::path::Path::new("/dev/null");
    Config::load(Some(none), std::iter::empty(), Overrides::default()).expect("nothing is wrong with nothing").registries
});

fuzz_target!(|text: &str| {
    let targets: Targets = "seawall.corp:3128".parse().expect("a prefix");
    for kind in [kind(text), Kind::Yaml, Kind::Dockerfile] {
        let Ok(found) = read(kind, text) else { continue };
        let images = used(&found.references, &REGISTRIES, None);
        assert!(images.iter().map(|image| image.times).sum::<usize>() <= found.references.len());
        if kind == Kind::Json {
            let commands = commands(text, &REGISTRIES, &targets).expect("it was read before");
            assert!(commands.lines.iter().all(|line| !line.contains(['$', ';', '`', '|', '&', '\n'])));
            continue;
        }
        let once = rewrite(kind, text, &found, &REGISTRIES, &targets).text;
        let again = read(kind, &once).expect("only names are others");
        assert_eq!(again.references.len(), found.references.len());
        assert_eq!(rewrite(kind, &once, &again, &REGISTRIES, &targets).text, once);
    }
});
