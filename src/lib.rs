//! seawall: a transparent caching HTTPS forward proxy for container registries. This page is the map.
//!
//! # What a pull is
//!
//! A **tag resolves** to a digest; a **digest names** bytes. Tags are revalidated with HEAD, which no registry counts; bytes are
//! verified; nothing else is cached. So a GET goes upstream only for a digest that is not here, and blobs, manifests by digest and
//! manifests by tag share one content path. Bytes are shared by digest across repositories and registries. **Permission is never
//! shared**: whoever reads has upstream's yes for that repository, or the repository is open to everybody.
//!
//! # The path of a request
//!
//! ```text
//! listener → entrance (may they?) → conn → sniff → policy/intercept → a host that is no registry: spliced, and forgotten
//!                                                                   → a registry: TLS with a leaf for that host → gateway
//!                                                                   → CONNECT: 200, and conn once more with that host
//!                                           → seawall itself: TLS with a leaf for its own names, and all of this once more
//! gateway: door (who is meant?) → oci/route → permitted → a pull: cache.get → Found → deliver (HEAD, 304, ranges) → response
//!                                                       → else: upstream.pass, streamed untouched
//!          any error → rescue → response
//! cache.get: resolve (tags)  → policy/freshness: the binding, or one HEAD that is an answer and a yes
//!            admit           → policy/access: a grant that is believed, or one HEAD with the client's own credential
//!            content         → held: open · on its way: follow · neither: lead, and a fill is spawned
//! upstream: the client's own credential, or nobody's; the operator's account where it pays or shares (cache/pay, upstream/pay)
//! fill: upstream.fetch → hash + partial file → verified → store.commit → index.insert → land
//! ```
//!
//! # The modules, in layers
//!
//! A module uses those above it, and none beside it. `tests/it/layers.rs` holds us to it.
//!
//! - words, which parse and print: [`oci`] (digests, names, routes, manifests, challenges), [`http`] (ranges, conditions, origins)
//! - [`error`]: what went wrong, for the client and for the log · [`policy`]: every decision, a pure function with `now` as argument
//! - [`clock`], [`fs`], [`task`]: the only places that read time, touch files, spawn · [`tls`]: who encrypts · [`lru`]: what may vanish · [`ledger`], [`metrics`]: the books
//! - [`ca`]: the root and its leaves · [`store`]: the files · [`index`]: which there are · [`dial`]: from a host name to a connection
//! - [`upstream`]: everything asked of registries
//! - [`cache`]: grants, tags, flights, fills, readers · [`setup`]: what points a client at seawall
//!   · [`images`]: what manifests, compose files and Dockerfiles name
//! - [`admin`]: health and metrics on a listener of their own
//! - [`proxy`]: from the socket to the response
//! - [`config`]: TOML, variables and flags into valid settings · [`daemon`]: builds and drains all this · [`cli`]: the commands

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
pub mod dial;
pub mod records;
pub mod store;

pub mod upstream;

pub mod access;

pub mod cache;
pub mod images;
pub mod setup;

pub mod admin;

pub mod proxy;

pub mod config;

pub mod daemon;

pub mod cli;
