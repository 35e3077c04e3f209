//! Downloads from servers that misbehave, by the real download process.
#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

mod certificates;
mod lies;
mod links;
mod process;
mod proxies;
mod redirects;
mod server;
mod statuses;
mod tls;

use std::io::Read;
use std::path::PathBuf;

use updater::fetch::{FailureKind, FetchError, FetchOptions, HttpPayload, Patience};

/// Short waits; the long ones are for servers that mean it.
fn options() -> FetchOptions {
    FetchOptions {
        patience: Patience {
            connect: 20_000,
            response: 20_000,
            stall: 20_000,
            first_wait: 20,
            longest_wait: 2000,
            attempts_to_begin: 3,
            attempts_to_go_on: 4,
        },
        program: Some(PathBuf::from(env!("CARGO_BIN_EXE_update_engine"))),
        ..FetchOptions::default()
    }
}

/// For servers that go silent.
fn impatient() -> FetchOptions {
    let mut options = options();
    options.patience.stall = 1000;
    options.patience.response = 1000;
    options
}

/// Everything that there is at an address.
fn fetch(url: &str, options: FetchOptions) -> Result<Vec<u8>, FetchError> {
    read(&mut HttpPayload::new(url, options, None))
}

/// What is left of a download.
fn read(payload: &mut HttpPayload) -> Result<Vec<u8>, FetchError> {
    let mut bytes = Vec::new();
    match payload.read_to_end(&mut bytes) {
        Ok(_) => Ok(bytes),
        Err(error) => Err(*error.into_inner().unwrap().downcast().unwrap()),
    }
}

/// Why a download fails.
fn failure(url: &str, options: FetchOptions) -> (FailureKind, String) {
    let error = fetch(url, options).unwrap_err();
    (error.failure.kind, error.to_string())
}
