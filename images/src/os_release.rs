//! What an image says about itself in `lib/os-release`.

/// The three fields that a release is checked by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OsRelease {
    /// `IMAGE_ID`: the product.
    pub product: Option<String>,
    /// `IMAGE_VERSION`.
    pub version: Option<String>,
    /// `TANDEM_ROLLBACK_INDEX`, as it stands there.
    pub rollback_index: Option<String>,
}

/// Reads `KEY=VALUE` lines; the last of several counts, as for a shell. Quotes around a value go away.
#[must_use]
pub fn parse(text: &str) -> OsRelease {
    let mut found = OsRelease::default();
    for line in text.lines() {
        let Some((key, value)) = line.trim().split_once('=') else {
            continue;
        };
        let field = match key {
            "IMAGE_ID" => &mut found.product,
            "IMAGE_VERSION" => &mut found.version,
            "TANDEM_ROLLBACK_INDEX" => &mut found.rollback_index,
            _ => continue,
        };
        *field = Some(unquote(value.trim()).to_owned());
    }
    found
}

fn unquote(value: &str) -> &str {
    ['"', '\'']
        .iter()
        .find_map(|&q| value.strip_prefix(q)?.strip_suffix(q))
        .unwrap_or(value)
}

impl OsRelease {
    /// The keys that are missing: an image without them fails its own first health check.
    #[must_use]
    pub fn missing(&self) -> Vec<&'static str> {
        [
            ("IMAGE_ID", self.product.is_none()),
            ("IMAGE_VERSION", self.version.is_none()),
            ("TANDEM_ROLLBACK_INDEX", self.rollback_index.is_none()),
        ]
        .into_iter()
        .filter_map(|(key, missing)| missing.then_some(key))
        .collect()
    }

    /// `IMAGE_ID=x instead of y` for the first key that says something else than the command line.
    #[must_use]
    pub fn contradicts(&self, product: &str, version: &str, index: u64) -> Option<String> {
        [
            ("IMAGE_ID", &self.product, product.to_owned()),
            ("IMAGE_VERSION", &self.version, version.to_owned()),
            (
                "TANDEM_ROLLBACK_INDEX",
                &self.rollback_index,
                index.to_string(),
            ),
        ]
        .into_iter()
        .find_map(|(key, found, wanted)| match found {
            Some(found) if *found != wanted => Some(format!("{key}={found}, not {wanted}")),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_comments_and_repetitions() {
        let text =
            "# IMAGE_ID=no\nNAME=x\nIMAGE_ID=old\nIMAGE_ID=\"demo\"\nIMAGE_VERSION='1.0.0'\n";
        let found = parse(text);
        assert_eq!(found.product.as_deref(), Some("demo"));
        assert_eq!(found.version.as_deref(), Some("1.0.0"));
        assert_eq!(found.missing(), ["TANDEM_ROLLBACK_INDEX"]);
        assert_eq!(found.contradicts("demo", "1.0.0", 7), None);
        assert_eq!(
            found.contradicts("demo", "2.0.0", 7).unwrap(),
            "IMAGE_VERSION=1.0.0, not 2.0.0"
        );
    }
}
