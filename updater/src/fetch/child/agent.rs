//! HTTP clients, set up as a request wants them.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Proxy};

use crate::fetch::failure::{Failure, FailureKind};
use crate::fetch::options::{ClientIdentity, Patience};
use crate::fetch::wire::Request;

/// Bytes of the head of an answer.
const MAX_HEAD: usize = 32 << 10;

/// The clients in use, one for each proxy; they keep what makes the next encrypted connection cheap.
#[derive(Debug)]
pub struct Agents {
    tls: TlsConfig,
    patience: Patience,
    agents: Vec<(Option<Proxy>, Agent)>,
}

impl Agents {
    /// Takes certificates and key from the request.
    pub fn new(request: &Request) -> Result<Self, Failure> {
        let mut tls = TlsConfig::builder();
        if let Some(pem) = &request.authorities {
            tls = tls.root_certs(RootCerts::Specific(Arc::new(authorities(pem)?)));
        }
        if let Some(identity) = &request.identity {
            tls = tls.client_cert(Some(client_certificate(identity)?));
        }
        Ok(Self {
            tls: tls.build(),
            patience: request.patience,
            agents: Vec::new(),
        })
    }

    /// The client that goes through `proxy`.
    pub fn through(&mut self, proxy: Option<Proxy>) -> Agent {
        if let Some((_, agent)) = self.agents.iter().find(|(known, _)| *known == proxy) {
            return agent.clone();
        }
        let agent = self.make(proxy.clone());
        self.agents.push((proxy, agent.clone()));
        agent
    }

    fn make(&self, proxy: Option<Proxy>) -> Agent {
        let milliseconds = |ms| Some(Duration::from_millis(ms));
        let patience = &self.patience;
        let config = Agent::config_builder()
            .user_agent(concat!("tandem/", env!("CARGO_PKG_VERSION")))
            // The bytes are compressed where it pays, and the ranges are those of the file.
            .accept_encoding("identity")
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .max_idle_connections(0)
            .max_response_header_size(MAX_HEAD)
            .proxy(proxy)
            .tls_config(self.tls.clone())
            .timeout_resolve(milliseconds(patience.connect))
            .timeout_connect(milliseconds(patience.connect))
            .timeout_send_request(milliseconds(patience.stall))
            .timeout_recv_response(milliseconds(patience.response))
            .timeout_per_read(milliseconds(patience.stall));
        config.build().new_agent()
    }
}

fn bad(what: &str) -> Failure {
    Failure::new(FailureKind::Configuration, what)
}

fn authorities(pem: &str) -> Result<Vec<Certificate<'static>>, Failure> {
    let mut all = Vec::new();
    for item in parse_pem(pem.as_bytes()) {
        match item {
            Ok(PemItem::Certificate(certificate)) => all.push(certificate),
            Ok(_) => {}
            Err(_) => return Err(bad("the file of authorities is damaged")),
        }
    }
    match all.is_empty() {
        true => Err(bad("the file of authorities holds no certificate")),
        false => Ok(all),
    }
}

fn client_certificate(identity: &ClientIdentity) -> Result<ClientCert, Failure> {
    let chain: Vec<_> = parse_pem(identity.certificate.as_bytes())
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if chain.is_empty() {
        return Err(bad("the file of the client certificate holds none"));
    }
    let key = PrivateKey::from_pem(identity.key.as_bytes())
        .map_err(|_| bad("the file of the client certificate's key holds no private key"))?;
    check_pair(&chain, &identity.key)?;
    Ok(ClientCert::new_with_certs(&chain, key))
}

/// The client would panic over a key that does not belong to its certificate.
fn check_pair(chain: &[Certificate<'_>], key: &str) -> Result<(), Failure> {
    let chain = chain.iter().map(|c| CertificateDer::from(c.der().to_vec()));
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
        .map_err(|_| bad("the file of the client certificate's key holds no private key"))?;
    let provider = rustls::crypto::ring::default_provider();
    rustls::sign::CertifiedKey::from_der(chain.collect(), key, &provider)
        .map(drop)
        .map_err(|error| {
            bad(&format!(
                "the client certificate and its key don't go together: {error}"
            ))
        })
}
