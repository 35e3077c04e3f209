//! Addresses: where a group's newest payload lies, and how an address is told to a person.

/// Whether a `--payload` means the network and not a file.
#[must_use]
pub fn is_web_address(text: &str) -> bool {
    split_scheme(text).is_some()
}

/// Where the newest payload of a group lies, below the base address of `SERVER`.
#[must_use]
pub fn latest_payload(server: &str, group: &str, board: &str) -> String {
    let base = server.trim_end_matches('/');
    format!("{base}/{group}/{board}/latest.payload")
}

/// The address without a user's name and password, which must not get into logs, and without control characters.
pub fn printable(url: &str) -> String {
    let clean: String = url.chars().filter(|c| !c.is_control()).take(512).collect();
    let Some((scheme, rest)) = split_scheme(&clean) else {
        return clean;
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}{path}")
}

/// Scheme and the rest after `://`, for the two schemes that we speak.
fn split_scheme(url: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let known = ["http", "https"]
        .iter()
        .any(|k| scheme.eq_ignore_ascii_case(k));
    known.then_some((scheme, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_address_with_and_without_its_slash() {
        for server in ["https://up.example/tandem", "https://up.example/tandem//"] {
            assert_eq!(
                latest_payload(server, "stable", "x86_64-grub"),
                "https://up.example/tandem/stable/x86_64-grub/latest.payload"
            );
        }
    }

    #[test]
    fn passwords_and_escapes_do_not_get_into_messages() {
        assert_eq!(
            printable("https://joe:secret@up.example:8443/a@b?c"),
            "https://up.example:8443/a@b?c"
        );
        assert_eq!(
            printable("http://up.example/\x1b[2Ja\r\nb"),
            "http://up.example/[2Jab"
        );
        assert_eq!(printable("nonsense"), "nonsense");
    }

    #[test]
    fn a_file_is_no_web_address() {
        for file in ["v2.payload", "-", "/a/http://b", "ftp://host/x", "http:/x"] {
            assert!(!is_web_address(file), "{file}");
        }
        assert!(is_web_address("HTTPS://host/x"));
    }
}
