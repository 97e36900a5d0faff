//! Which images manifests, compose files and Dockerfiles name, and their names at seawall's mirror.
//!
//! 1. [`read()`] finds the references in a text: by the tree of YAML and JSON (`manifests` says
//!    which strings are images), or by the instructions of a Dockerfile (`dockerfile`). Each
//!    [`Reference`] knows where it stands, where it stands somewhere by itself.
//! 2. [`name`] says what a reference means; [`used`] puts equal ones together.
//! 3. [`rewrite`] puts other names in their places and leaves every other byte; `set_image` says
//!    the same as commands of kubectl.
//!
//! All of it is pure. What is in the cache, the running seawall is asked by the command line.

mod dockerfile;
mod manifests;
pub mod name;
mod owners;
mod read;
mod reference;
pub mod rewrite;
pub mod set_image;
mod tree;
pub mod used;
mod variables;

pub use read::{Kind, kind, read};
pub use reference::{Place, Read, ReadError, Reference};
