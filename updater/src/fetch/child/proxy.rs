//! Which proxy an address goes through.

use ureq::Proxy;
use ureq::http::Uri;

use crate::fetch::failure::{Failure, FailureKind};
use crate::fetch::options::Proxies;

/// The proxy for an address, if it has one.
pub fn choose(proxies: &Proxies, url: &Uri) -> Result<Option<Proxy>, Failure> {
    let is_https = url.scheme_str() == Some("https");
    let address = match is_https {
        true => &proxies.https,
        false => &proxies.http,
    };
    let Some(address) = address else {
        return Ok(None);
    };
    let host = url.host().unwrap_or_default();
    if proxies.no.as_deref().is_some_and(|no| is_direct(no, host)) {
        return Ok(None);
    }
    let bad = |what: &str| {
        let variable = match is_https {
            true => "https_proxy",
            false => "http_proxy",
        };
        // Not the value: there may be a password in it.
        Failure::new(FailureKind::Configuration, format!("{variable} {what}"))
    };
    let proxy = Proxy::new(address).map_err(|_| bad("is not an address (http://proxy:port)"))?;
    match proxy.protocol() {
        ureq::ProxyProtocol::Http | ureq::ProxyProtocol::Https => Ok(Some(proxy)),
        _ => Err(bad("names a SOCKS proxy, which is not supported")),
    }
}

/// Whether `no_proxy` names the host: by its name, by a domain that it is in, or by `*`.
fn is_direct(no: &str, host: &str) -> bool {
    let host = host.trim_matches(['[', ']']).to_ascii_lowercase();
    no.split([',', ' ']).any(|entry| {
        let entry = entry.trim().to_ascii_lowercase();
        let domain = entry.trim_start_matches('*').trim_start_matches('.');
        match domain {
            "" => entry == "*",
            _ => host
                .strip_suffix(domain)
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.')),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_proxy_names_hosts_and_domains() {
        let no = "localhost, .corp.example,*.lab,10.0.0.1,::1";
        for direct in [
            "localhost",
            "a.corp.example",
            "CORP.example",
            "x.lab",
            "10.0.0.1",
            "[::1]",
        ] {
            assert!(is_direct(no, direct), "{direct}");
        }
        for other in [
            "example",
            "mycorp.example.com",
            "evilcorp.example",
            "10.0.0.11",
            "lab2",
        ] {
            assert!(!is_direct(no, other), "{other}");
        }
        assert!(is_direct("*", "anything"));
        assert!(!is_direct("", "anything"));
    }

    #[test]
    fn the_scheme_decides_and_a_password_stays_out_of_messages() {
        let proxies = Proxies {
            http: Some("http://joe:secret@p:1".into()),
            https: Some("socks5://joe:secret@p:1".into()),
            no: None,
        };
        let open = choose(&proxies, &Uri::from_static("http://a/b"))
            .unwrap()
            .unwrap();
        assert_eq!(open.username(), Some("joe"));
        let failure = choose(&proxies, &Uri::from_static("https://a/b")).unwrap_err();
        assert!(
            failure.detail.contains("https_proxy names a SOCKS"),
            "{}",
            failure.detail
        );
        assert!(!failure.detail.contains("secret"));
    }
}
