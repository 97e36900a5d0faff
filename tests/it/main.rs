//! The integration tests, one binary.
#![expect(clippy::disallowed_methods, reason = "tests spawn tasks, read clocks and write files as they like")]
#![expect(clippy::unwrap_used, reason = "what tests share is test code too")]

mod access;
mod account;
mod away;
mod bad;
mod clients;
mod clients_balancer;
mod daemon;
mod dial;
mod dial_tls;
mod disk;
mod door;
mod door_clear;
mod flight;
mod flight_breaks;
mod flight_ranges;
mod harness;
mod layers;
mod matrix;
mod matrix_flight;
mod matrix_grants;
mod matrix_runs;
mod matrix_world;
mod mirror;
mod model;
mod model_books;
mod model_judge;
mod model_world;
mod offline;
mod origins;
mod parent;
mod passing;
mod pull;
mod repositories;
mod secrets;
mod serve;
mod serve_hard;
mod smuggling;
mod smuggling_fields;
mod smuggling_framing;
mod smuggling_h2;
mod smuggling_targets;
mod sources;
mod tags;
