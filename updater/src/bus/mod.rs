//! The system bus: Flatcar's `com.coreos.update1.Manager`, so that what knows it keeps working, and beside it an interface
//! of our own with what that one can't tell.
//!
//! D-Bus runs in a process of its own, without privileges ([`bridge`]), which is also a program of its own: it would be
//! an eighth of `update_engine`, and a system without a bus needs none of it. It holds the name on the bus, and asks the
//! service for the few things in [`Verb`]; who may call what is the bus's business, by the policy in `updater/dbus`. The
//! service's side ([`keeper`]) takes nothing else from it.

mod bridge;
mod interfaces;
mod keeper;

pub use bridge::run as run_bridge;
pub use keeper::{Connect, is_named, keep};

use serde::{Deserialize, Serialize};

use crate::service::status::Status;

/// The program that runs the bridge, beside ours.
const PROGRAM: &str = "update_engine_bus";

/// The name on the bus, and where the object is.
const NAME: &str = "com.coreos.update1";
const PATH: &str = "/com/coreos/update1";

/// What callers on the bus may want.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Verb {
    /// Looks for an update and installs it; answered once that has begun.
    Attempt,
    Check,
    Reset,
    Cancel,
    Rollback,
}

/// From the bridge to the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Call {
    /// Chosen by the bridge; comes back with the answer.
    id: u64,
    verb: Verb,
}

/// From the service to the bridge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum News {
    Status(Status),
    Answer { id: u64, answer: Answer },
}

/// What came of a call: a sentence, or an exit code and why not.
type Answer = Result<String, (u8, String)>;
