//! The two interfaces.

use bootctl::exit::{Exit, one_line};
use zbus::object_server::SignalEmitter;
use zbus::{Connection, DBusError, interface};

use super::bridge::Service;
use super::{Answer, PATH, Verb};
use crate::service::status::Status;

/// Why a call was not done, by the kinds that the exit codes tell apart.
#[derive(Debug, DBusError)]
#[zbus(prefix = "tandem.Update1.Error")]
pub enum Error {
    #[zbus(error)]
    ZBus(zbus::Error),
    Failed(String),
    NoUpdate(String),
    AlreadyStaged(String),
    Busy(String),
    Refused(String),
    Verification(String),
}

fn result(answer: Answer) -> Result<String, Error> {
    answer.map_err(|(code, text)| {
        // A string on the bus holds no zero byte.
        let text = one_line(&text);
        let is = |exit: Exit| exit.code() == code;
        match () {
            () if is(Exit::NoUpdate) => Error::NoUpdate(text),
            () if is(Exit::AlreadyStaged) => Error::AlreadyStaged(text),
            () if is(Exit::Busy) => Error::Busy(text),
            () if is(Exit::Refused) => Error::Refused(text),
            () if is(Exit::Verification) => Error::Verification(text),
            () => Error::Failed(text),
        }
    })
}

/// Flatcar's interface, with its exact signatures.
pub struct Manager(Service);

/// When it was looked last, progress, operation, version and size of the new release. Where the interface is described
/// the tuple is written out: behind a name it would pass for one value.
type FlatcarStatus = (i64, f64, String, String, i64);

impl Manager {
    pub fn new(service: Service) -> Self {
        Self(service)
    }

    fn tuple(status: &Status) -> FlatcarStatus {
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        (
            signed(status.last_checked),
            status.progress(),
            status.operation.as_str().to_owned(),
            status.version().to_owned(),
            signed(status.size()),
        )
    }

    /// Tells the bus of a change.
    pub async fn signal(connection: &Connection, status: &Status) -> zbus::Result<()> {
        let emitter = SignalEmitter::new(connection, PATH)?;
        let (checked, progress, operation, version, size) = Self::tuple(status);
        Self::status_update(&emitter, checked, progress, &operation, &version, size).await
    }
}

#[interface(name = "com.coreos.update1.Manager")]
impl Manager {
    async fn attempt_update(&self) -> Result<(), Error> {
        result(self.0.ask(Verb::Attempt).await).map(drop)
    }

    async fn reset_status(&self) -> Result<(), Error> {
        result(self.0.ask(Verb::Reset).await).map(drop)
    }

    #[zbus(out_args(
        "last_checked_time",
        "progress",
        "current_operation",
        "new_version",
        "new_size"
    ))]
    fn get_status(&self) -> (i64, f64, String, String, i64) {
        Self::tuple(&self.0.status())
    }

    #[zbus(signal)]
    async fn status_update(
        emitter: &SignalEmitter<'_>,
        last_checked_time: i64,
        progress: f64,
        current_operation: &str,
        new_version: &str,
        new_size: i64,
    ) -> zbus::Result<()>;
}

/// Our own interface: what Flatcar's can't tell or do.
pub struct Details(Service);

/// Operation; of so many blocks so many done; exit code, text and time of the last error.
type OurStatus = (String, u64, u64, u32, String, u64);

impl Details {
    pub fn new(service: Service) -> Self {
        Self(service)
    }

    fn tuple(status: &Status) -> OurStatus {
        let error = status.last_error.as_ref();
        (
            status.operation.as_str().to_owned(),
            status.done,
            status.total,
            error.map_or(0, |error| error.exit.into()),
            error.map_or_else(String::new, |error| one_line(&error.text)),
            error.map_or(0, |error| error.time),
        )
    }

    /// Tells the bus of a change.
    pub async fn signal(connection: &Connection, status: &Status) -> zbus::Result<()> {
        let emitter = SignalEmitter::new(connection, PATH)?;
        let (operation, done, total, code, error, time) = Self::tuple(status);
        Self::details_changed(&emitter, &operation, done, total, code, &error, time).await
    }
}

#[interface(name = "tandem.Update1")]
impl Details {
    #[zbus(out_args("text"))]
    async fn check_for_update(&self) -> Result<String, Error> {
        result(self.0.ask(Verb::Check).await)
    }

    #[zbus(out_args("text"))]
    async fn cancel(&self) -> Result<String, Error> {
        result(self.0.ask(Verb::Cancel).await)
    }

    #[zbus(out_args("text"))]
    async fn rollback(&self) -> Result<String, Error> {
        result(self.0.ask(Verb::Rollback).await)
    }

    #[zbus(out_args(
        "operation",
        "done",
        "total",
        "last_error_code",
        "last_error",
        "last_error_time"
    ))]
    fn get_details(&self) -> (String, u64, u64, u32, String, u64) {
        Self::tuple(&self.0.status())
    }

    #[zbus(signal)]
    async fn details_changed(
        emitter: &SignalEmitter<'_>,
        operation: &str,
        done: u64,
        total: u64,
        last_error_code: u32,
        last_error: &str,
        last_error_time: u64,
    ) -> zbus::Result<()>;
}
