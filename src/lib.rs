//! seawall: a transparent caching HTTPS forward proxy for container registries. This page is the
//! map.
//!
//! # What a pull is
//!
//! A **tag resolves** to a digest; a **digest names** bytes. Tags are revalidated with HEAD, which
//! no registry counts; bytes are verified; nothing else is cached. So a GET goes upstream only for
//! a digest that is not here, and blobs, manifests by digest and manifests by tag share one content
//! path. Bytes are shared by digest across repositories and registries. **Permission is never
//! shared**: whoever reads has a grant of upstream's for that repository, or the repository is open
//! to anonymous.
//!
//! # The path of a request
//!
//! ```text
//! server:  listener → admission (may they connect?) → connection: a loop over what the bytes are
//!            sniff → a host that is no registry: spliced, and forgotten
//!                  → a registry, or seawall itself: TLS with a leaf for that name, and once more
//!                  → HTTP → gateway · CONNECT: 200, and once more with the host it names
//! gateway: target (which registry?) → oci/route → permitted → a pull: cache.get → Found → deliver (HEAD, 304, ranges) → response
//!                                                           → else: upstream.pass, streamed untouched
//!          any error → rescue → response
//! cache.get: resolve (tags)  → policy/freshness: the binding, or one HEAD that is an answer and a grant
//!            permission      → access: a grant that is fresh, or one HEAD with the client's own credential
//!            content         → held: open · on its way: follow · neither: lead, and a fill is spawned
//! upstream: a request goes out with the client's own credential, as anonymous, or with the operator's account where it pays or shares
//! fill: upstream.fetch → hash + partial file → verified → store.commit → index.insert → land
//! ```
//!
//! # The modules, in layers
//!
//! A module uses those above it, and none beside it; so do the files inside a module.
//! `tests/it/layers.rs` holds us to it, and `docs/architecture.md` walks the whole way with every
//! function in order.
//!
//! - words, which parse and print: [`oci`] (digests, names, routes, manifests, challenges),
//!   [`http`] (ranges, conditions, origins)
//! - [`error`]: what went wrong, for the client and for the log · [`policy`]: every decision, a
//!   pure function with `now` as argument
//! - [`clock`], [`fs`], [`task`]: the only places that read time, touch files, spawn · [`tls`]: who
//!   encrypts · [`lru`]: what may vanish · [`ledger`]: the books of upstream's quota · [`metrics`]
//! - [`ca`]: the root and its leaves · [`lane`]: a line for places · [`records`]: tables that outlive
//!   the process, and their one writer
//! - [`store`]: the bytes on this disk, and the index of them · [`dial`]: from a host name to a
//!   connection
//! - [`upstream`]: one request to a registry and its answer
//! - [`access`]: who may read what, and who pays for it
//! - [`cache`]: tags, flights, fills, readers · [`setup`]: what points a client at seawall ·
//!   [`images`]: what manifests, compose files and Dockerfiles name
//! - [`operate`]: what an operator sees of a cache and does to it, as reports
//! - [`admin`]: health and metrics on a listener of their own · [`gateway`]: a request, from its
//!   head to its response
//! - [`server`]: a connection, from the socket to the request
//! - [`config`]: TOML, variables and flags into valid settings · [`daemon`]: builds and drains all
//!   this · [`cli`]: the commands

pub mod http;
pub mod oci;

pub mod error;

pub mod policy;

pub mod clock;
pub mod fs;
pub mod ledger;
pub mod lru;
pub mod metrics;
pub mod task;
pub mod tls;

pub mod ca;
pub mod lane;
pub mod records;

pub mod dial;
pub mod store;

pub mod upstream;

pub mod access;

pub mod cache;
pub mod images;
pub mod setup;

pub mod operate;

pub mod admin;
pub mod gateway;

pub mod server;

pub mod config;

pub mod daemon;

pub mod cli;
