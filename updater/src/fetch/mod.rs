//! Payloads from a web server.
//!
//! DNS, TLS and HTTP run in a process of their own, without privileges: it is started from our own executable, gets one
//! socket and nothing else, and answers with bounded frames ([`wire`]). What it says is as untrusted as the server; the
//! process that holds the disk takes bytes from it and no decision. [`HttpPayload`] is that process's end: a stream of
//! bytes that goes on by itself after a connection broke, and that can begin anywhere.

mod address;
mod child;
mod failure;
mod options;
mod payload;
mod process;
mod wire;

pub use address::{is_web_address, latest_payload};
pub use child::run as run_child;
pub use failure::{Failure, FailureKind, FetchError};
pub use options::{ClientIdentity, FetchOptions, OptionsError, Patience, Proxies};
pub use payload::{Canceller, HttpPayload};
pub use process::VERB;
pub use wire::Validator;
