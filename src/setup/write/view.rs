//! The files of the machine, as the clients' objections see them.

use std::path::{Path, PathBuf};

use super::super::objection::Files;
use super::root::Root;
use super::step::Step;

/// Below `root`, with `steps` about to be taken.
pub(super) struct View<'a> {
    pub(super) root: Root<'a>,
    pub(super) steps: &'a [Step],
}

impl View<'_> {
    fn step(&self, path: &Path) -> Option<&Step> {
        self.steps.iter().find(|step| step.path == path)
    }
}

impl Files for View<'_> {
    fn now(&self, path: &Path) -> Option<String> {
        match self.step(path) {
            Some(step) => text(&step.current.as_ref()?.bytes),
            None => text(&self.root.read(path).ok()??.bytes),
        }
    }

    fn then(&self, path: &Path) -> Option<String> {
        match self.step(path) {
            Some(step) => text(step.next.as_deref()?),
            None => self.now(path),
        }
    }

    fn list(&self, dir: &Path) -> Vec<PathBuf> {
        self.root.0.list(dir).unwrap_or_default()
    }
}

fn text(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok()
}
