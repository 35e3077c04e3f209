//! Where a redirect leads.

use ureq::http::Uri;

use crate::fetch::address::printable;
use crate::fetch::failure::{Failure, FailureKind};

/// Redirects that are followed.
pub const MAX_REDIRECTS: u32 = 10;

/// The address that `location` means, seen from `base`. Never leads from an encrypted connection to an open one.
pub fn follow(base: &Uri, location: &str) -> Result<Uri, Failure> {
    let target = join(base, location).ok_or_else(|| {
        let detail = format!(
            "the server redirects to {}, which is no address",
            printable(location)
        );
        Failure::new(FailureKind::Redirect, detail)
    })?;
    if base.scheme_str() == Some("https") && target.scheme_str() != Some("https") {
        let detail = format!(
            "the server redirects from https to {}, which is not encrypted",
            printable(&target.to_string())
        );
        return Err(Failure::new(FailureKind::Downgrade, detail));
    }
    Ok(target)
}

/// An address with a scheme that we speak and a host.
pub fn parse(url: &str) -> Option<Uri> {
    let uri: Uri = url.parse().ok()?;
    let is_known = matches!(uri.scheme_str(), Some("http" | "https"));
    let has_host = uri.host().is_some_and(|host| !host.is_empty());
    (is_known && has_host).then_some(uri)
}

/// RFC 3986, 5.2, as far as redirects use it. Dots in a path are left to the server.
fn join(base: &Uri, location: &str) -> Option<Uri> {
    let location = location.split('#').next()?;
    if location.is_empty() {
        return None;
    }
    let scheme = base.scheme_str()?;
    let authority = base.authority()?;
    let path = base.path();
    let folder = path.get(..=path.rfind('/')?)?;
    let has_scheme = location
        .split_once(':')
        .is_some_and(|(head, _)| !head.contains(['/', '?']));
    let url = match location.as_bytes() {
        _ if has_scheme => location.to_owned(),
        [b'/', b'/', ..] => format!("{scheme}:{location}"),
        [b'/', ..] => format!("{scheme}://{authority}{location}"),
        [b'?', ..] => format!("{scheme}://{authority}{path}{location}"),
        _ => format!("{scheme}://{authority}{folder}{location}"),
    };
    parse(&url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_of_every_form() {
        let base = Uri::from_static("https://a.example:8443/x/y?z");
        for (location, target) in [
            ("https://b/c", "https://b/c"),
            ("//b/c", "https://b/c"),
            ("/c?d", "https://a.example:8443/c?d"),
            ("c", "https://a.example:8443/x/c"),
            ("../c#e", "https://a.example:8443/x/../c"),
            ("?d", "https://a.example:8443/x/y?d"),
            (
                "c?u=http://evil",
                "https://a.example:8443/x/c?u=http://evil",
            ),
        ] {
            assert_eq!(
                follow(&base, location).unwrap().to_string(),
                target,
                "{location}"
            );
        }
    }

    #[test]
    fn redirects_that_lead_nowhere_or_down() {
        let base = Uri::from_static("https://a/x");
        for location in [
            "",
            "#a",
            "ftp://b/c",
            "file:///etc/passwd",
            "https://",
            "https:///x",
            "//",
            "\u{1}",
        ] {
            let kind = follow(&base, location).unwrap_err().kind;
            assert_eq!(kind, FailureKind::Redirect, "{location:?}");
        }
        for location in ["http://a/x", "HTTP://b/"] {
            let kind = follow(&base, location).unwrap_err().kind;
            assert_eq!(kind, FailureKind::Downgrade, "{location}");
        }
        let open = Uri::from_static("http://a/x");
        assert!(follow(&open, "https://a/x").is_ok());
        assert!(follow(&open, "http://b/").is_ok());
    }
}
