//! How to reach servers: time-outs, authorities, a certificate of our own, proxies, a limit for the rate.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::files;
use crate::settings::Settings;

/// Bytes of a file with certificates: a bundle of all the world's authorities has a quarter of it.
const MAX_PEM: u64 = 1 << 20;

/// How long to wait for what, in milliseconds, and how often to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Patience {
    /// For a name, and then for a connection with the encryption agreed.
    pub connect: u64,
    /// For the head of an answer.
    pub response: u64,
    /// For the next bytes of a file; also the span within which a few KiB must come.
    pub stall: u64,
    /// Before the second attempt; doubles with each.
    pub first_wait: u64,
    /// The longest wait between two attempts. A server that asks for more ends the download.
    pub longest_wait: u64,
    /// Attempts before the first byte came.
    pub attempts_to_begin: u32,
    /// Attempts in a row that bring nothing, later.
    pub attempts_to_go_on: u32,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: 30_000,
            response: 60_000,
            stall: 30_000,
            first_wait: 1000,
            longest_wait: 120_000,
            attempts_to_begin: 5,
            attempts_to_go_on: 20,
        }
    }
}

impl Patience {
    /// The download process always says something within this time, or is broken: it tells of every connection that it
    /// is about to make, and while it throws bytes away.
    pub(super) fn silence(&self) -> Duration {
        let parts = [
            // The name of a proxy, the name of the server, the connection.
            self.connect.saturating_mul(3),
            self.response,
            self.stall,
            self.longest_wait,
            10_000,
        ];
        Duration::from_millis(parts.iter().fold(0, |sum, part| sum.saturating_add(*part)))
    }
}

/// A certificate and its private key, PEM, for servers that ask who we are.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientIdentity {
    pub certificate: String,
    pub key: String,
}

impl std::fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClientIdentity")
    }
}

/// Proxies by the scheme of the address, as environment variables give them.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proxies {
    pub http: Option<String>,
    pub https: Option<String>,
    /// Hosts that are reached directly, separated by commas.
    pub no: Option<String>,
}

impl std::fmt::Debug for Proxies {
    /// Without the passwords that may be in there.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxies")
            .field("http", &self.http.is_some())
            .field("https", &self.https.is_some())
            .field("no", &self.no)
            .finish()
    }
}

impl Proxies {
    /// `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy`, in small letters first, then in capitals.
    #[must_use]
    pub fn from_environment() -> Self {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let either = |name: &str| {
            variable(name)
                .or_else(|| variable(&name.to_ascii_uppercase()))
                .filter(|value| !value.is_empty())
        };
        let all = either("all_proxy");
        Self {
            http: either("http_proxy").or_else(|| all.clone()),
            https: either("https_proxy").or(all),
            no: either("no_proxy"),
        }
    }
}

/// Everything about reaching servers that does not depend on the address.
#[derive(Clone, Debug, Default)]
pub struct FetchOptions {
    /// Authorities to trust instead of the built-in ones, PEM.
    pub authorities: Option<String>,
    pub identity: Option<ClientIdentity>,
    pub proxies: Proxies,
    /// Bytes a second.
    pub rate: Option<u64>,
    pub patience: Patience,
    /// The program that is started with the hidden verb; our own executable if none.
    pub program: Option<PathBuf>,
}

/// Why the options can't be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OptionsError {
    #[error("read {}: {cause}", path.display())]
    Read {
        path: PathBuf,
        cause: std::io::Error,
    },
    #[error("read {}: {MAX_PEM} bytes at most are taken", path.display())]
    TooLong { path: PathBuf },
    #[error("read {}: it is not in the PEM format", path.display())]
    NotPem { path: PathBuf },
}

impl FetchOptions {
    /// Proxies from the environment, and certificates from files.
    ///
    /// # Errors
    /// A file can't be read or holds no PEM.
    pub fn load(
        authorities: Option<&Path>,
        identity: Option<(&Path, &Path)>,
    ) -> Result<Self, OptionsError> {
        let identity = match identity {
            None => None,
            Some((certificate, key)) => Some(ClientIdentity {
                certificate: read_pem(certificate)?,
                key: read_pem(key)?,
            }),
        };
        Ok(Self {
            authorities: authorities.map(read_pem).transpose()?,
            identity,
            proxies: Proxies::from_environment(),
            ..Self::default()
        })
    }

    /// What the settings of a device ask for, with proxies from the environment.
    ///
    /// # Errors
    /// A file that they name can't be read or holds no PEM.
    pub fn from_settings(settings: &Settings) -> Result<Self, OptionsError> {
        let certificate = settings.client_cert_file.as_deref().map(Path::new);
        let key = settings.client_key_file.as_deref().map(Path::new);
        let authorities = settings.ca_file.as_deref().map(Path::new);
        Ok(Self {
            rate: settings.rate_limit,
            ..Self::load(authorities, certificate.zip(key))?
        })
    }
}

fn read_pem(path: &Path) -> Result<String, OptionsError> {
    let path_buf = || path.to_path_buf();
    let failed = |cause| OptionsError::Read {
        path: path_buf(),
        cause,
    };
    let file = files::open(path).map_err(failed)?;
    let mut text = String::new();
    let limit = MAX_PEM.saturating_add(1);
    let read = file.take(limit).read_to_string(&mut text).map_err(failed)?;
    if read as u64 == limit {
        return Err(OptionsError::TooLong { path: path_buf() });
    }
    match text.contains("-----BEGIN ") {
        true => Ok(text),
        false => Err(OptionsError::NotPem { path: path_buf() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_letters_win_and_all_proxy_fills_up() {
        let environment = |name: &str| {
            let value = match name {
                "http_proxy" => "http://small:1",
                "HTTP_PROXY" => "http://large:1",
                "ALL_PROXY" => "http://all:1",
                "no_proxy" => "",
                "NO_PROXY" => "localhost",
                _ => return None,
            };
            Some(value.to_owned())
        };
        let proxies = Proxies::from_variables(environment);
        assert_eq!(proxies.http.as_deref(), Some("http://small:1"));
        assert_eq!(proxies.https.as_deref(), Some("http://all:1"));
        assert_eq!(proxies.no, None);
        assert!(!format!("{proxies:?}").contains("small"));
    }

    #[test]
    fn settings_name_files_and_the_rate() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        let mut settings = Settings::default();
        settings.rate_limit = Some(7);
        assert_eq!(
            FetchOptions::from_settings(&settings).unwrap().rate,
            Some(7)
        );
        settings.ca_file = Some(path.to_str().unwrap().try_into().unwrap());
        assert!(FetchOptions::from_settings(&settings).is_err());
        std::fs::write(&path, "-----BEGIN CERTIFICATE-----").unwrap();
        settings.client_cert_file = settings.ca_file.clone();
        settings.client_key_file = settings.ca_file.clone();
        let options = FetchOptions::from_settings(&settings).unwrap();
        assert!(options.authorities.is_some() && options.identity.is_some());
    }

    #[test]
    fn a_certificate_file_is_bounded_and_must_be_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        assert!(matches!(
            FetchOptions::load(Some(&path), None),
            Err(OptionsError::Read { .. })
        ));
        std::fs::write(&path, "hello").unwrap();
        assert!(matches!(
            FetchOptions::load(Some(&path), None),
            Err(OptionsError::NotPem { .. })
        ));
        std::fs::write(&path, vec![b'-'; 1 + (1 << 20)]).unwrap();
        assert!(matches!(
            FetchOptions::load(Some(&path), None),
            Err(OptionsError::TooLong { .. })
        ));
    }
}
