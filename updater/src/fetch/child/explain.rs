//! What an error of the HTTP client means, in words for a person.

use std::io::{self, ErrorKind};

use jiff::Timestamp;
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError};
use ureq::{Error, Timeout};

use crate::fetch::failure::{Failure, FailureKind};

/// Explains why an exchange with `host` failed.
pub fn explain(error: Error, host: &str) -> Failure {
    let failure = |kind, detail: String| Failure::new(kind, detail);
    match error {
        Error::Timeout(Timeout::Resolve) => failure(
            FailureKind::Resolve,
            format!("looking up the name {host} takes too long"),
        ),
        Error::Timeout(Timeout::Connect) => {
            failure(FailureKind::Connect, format!("{host} does not answer"))
        }
        Error::Timeout(_) => failure(FailureKind::Stalled, "the server went silent".into()),
        Error::HostNotFound => failure(
            FailureKind::Resolve,
            format!("the name {host} is not known"),
        ),
        Error::Io(error) => explain_io(error, host),
        Error::Rustls(error) => explain_tls(&error, host),
        Error::Tls(what) => failure(FailureKind::Tls, format!("no TLS with {host}: {what}")),
        Error::ConnectProxyFailed(what) if what.contains("407") => failure(
            FailureKind::ProxyPassword,
            "the proxy wants a name and a password, or others".into(),
        ),
        Error::ConnectProxyFailed(what) => failure(FailureKind::Proxy, what),
        Error::ConnectionFailed => {
            failure(FailureKind::Connect, format!("no connection to {host}"))
        }
        Error::Protocol(what) => failure(
            FailureKind::Answer,
            format!("the answer of {host} is not HTTP: {what}"),
        ),
        Error::LargeResponseHeader(..) => failure(
            FailureKind::Answer,
            format!("the answer of {host} has a head that is too long"),
        ),
        Error::BadUri(what) => failure(FailureKind::Address, format!("the address is bad: {what}")),
        other => failure(FailureKind::Connect, format!("{host}: {other}")),
    }
}

/// Explains why reading from `host` failed. Errors of TLS and of the client hide in the ones of a stream.
pub fn explain_io(error: io::Error, host: &str) -> Failure {
    if let Some(inner) = error.get_ref() {
        if let Some(tls) = inner.downcast_ref::<rustls::Error>() {
            return explain_tls(tls, host);
        }
        if inner.is::<Error>() {
            return explain(Error::from(error), host);
        }
    }
    let text = error.to_string();
    let (kind, detail) = match error.kind() {
        ErrorKind::UnexpectedEof
        | ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::BrokenPipe => (FailureKind::CutOff, "the connection broke".to_owned()),
        ErrorKind::TimedOut | ErrorKind::WouldBlock => {
            (FailureKind::Stalled, "the server went silent".to_owned())
        }
        // The kind of this one has no name in the standard library.
        _ if text.starts_with("failed to lookup address") => (
            FailureKind::Resolve,
            format!("the name {host} can't be looked up"),
        ),
        _ => (
            FailureKind::Connect,
            format!("no connection to {host}: {text}"),
        ),
    };
    Failure::new(kind, detail)
}

fn explain_tls(error: &rustls::Error, host: &str) -> Failure {
    let (kind, detail) = match error {
        rustls::Error::InvalidCertificate(bad) => return explain_certificate(bad, host),
        rustls::Error::AlertReceived(alert) => (
            FailureKind::Tls,
            format!("{host} ends the connection: {}", alert_text(*alert)),
        ),
        rustls::Error::InvalidMessage(_) => (
            FailureKind::Tls,
            format!("{host} does not speak TLS at that port"),
        ),
        rustls::Error::PeerIncompatible(what) => (
            FailureKind::Tls,
            format!("{host} speaks no TLS that is safe today (1.2 or 1.3): {what:?}"),
        ),
        other => (FailureKind::Tls, format!("no TLS with {host}: {other}")),
    };
    Failure::new(kind, detail)
}

fn alert_text(alert: AlertDescription) -> String {
    use AlertDescription as Alert;
    match alert {
        Alert::CertificateRequired => "it wants a client certificate".to_owned(),
        Alert::BadCertificate
        | Alert::UnsupportedCertificate
        | Alert::CertificateRevoked
        | Alert::CertificateExpired
        | Alert::CertificateUnknown
        | Alert::UnknownCA
        | Alert::AccessDenied => format!("it does not accept the client certificate ({alert:?})"),
        Alert::HandshakeFailure => {
            "no agreement on a cipher, or it wants a client certificate".to_owned()
        }
        other => format!("{other:?}"),
    }
}

fn explain_certificate(error: &CertificateError, host: &str) -> Failure {
    let now = Timestamp::now();
    let clock = |what: String| {
        let detail =
            format!("the certificate of {host} {what}, and this device's clock says {now:.0}");
        Failure::new(FailureKind::Clock, detail)
    };
    let bad = |what: String| {
        Failure::new(
            FailureKind::Certificate,
            format!("the certificate of {host} {what}"),
        )
    };
    match error {
        CertificateError::NotValidYetContext { not_before, .. } => {
            clock(format!("is valid from {}", date(*not_before)))
        }
        CertificateError::NotValidYet => clock("is not valid yet".into()),
        CertificateError::ExpiredContext { not_after, .. } => {
            clock(format!("was valid until {}", date(*not_after)))
        }
        CertificateError::Expired => clock("has expired".into()),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            bad("is for another name".into())
        }
        CertificateError::UnknownIssuer => {
            bad("is signed by no authority that this device trusts; give the authority's certificate if it is your own".into())
        }
        CertificateError::Revoked => bad("is revoked".into()),
        other => bad(format!("is not accepted: {other}")),
    }
}

fn date(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    match Timestamp::from_second(seconds) {
        Ok(time) => time.to_string(),
        Err(_) => "a time without end".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_wrong_is_named() {
        let error = CertificateError::NotValidYetContext {
            time: UnixTime::since_unix_epoch(std::time::Duration::from_secs(12)),
            not_before: UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_767_225_600)),
        };
        let inner = rustls::Error::InvalidCertificate(error);
        let failure = explain(
            io::Error::new(ErrorKind::InvalidData, inner).into(),
            "up.example",
        );
        assert_eq!(failure.kind, FailureKind::Clock);
        let expected = "the certificate of up.example is valid from 2026-01-01T00:00:00Z, and this device's clock says ";
        assert!(failure.detail.starts_with(expected), "{}", failure.detail);
    }

    #[test]
    fn errors_hidden_in_streams_are_found() {
        let hidden = io::Error::other(Error::Timeout(Timeout::PerRead));
        assert_eq!(explain_io(hidden, "h").kind, FailureKind::Stalled);
        let broken = io::Error::new(ErrorKind::UnexpectedEof, "Peer disconnected");
        assert_eq!(explain_io(broken, "h").kind, FailureKind::CutOff);
        let refused = io::Error::from(ErrorKind::ConnectionRefused);
        assert_eq!(explain(Error::Io(refused), "h").kind, FailureKind::Connect);
    }
}
