//! What an image says about itself in `lib/os-release`, against what the command line says.

pub use updater::health::os_release::OsRelease;

/// The keys that are missing: an image without them fails its own first health check.
#[must_use]
pub fn missing(found: &OsRelease) -> Vec<&'static str> {
    [
        ("IMAGE_ID", found.product.is_none()),
        ("IMAGE_VERSION", found.version.is_none()),
        ("TANDEM_ROLLBACK_INDEX", found.rollback_index.is_none()),
    ]
    .into_iter()
    .filter_map(|(key, missing)| missing.then_some(key))
    .collect()
}

/// `IMAGE_ID=x, not y` for the first key that says something else than the command line.
#[must_use]
pub fn contradicts(found: &OsRelease, product: &str, version: &str, index: u64) -> Option<String> {
    [
        ("IMAGE_ID", &found.product, product.to_owned()),
        ("IMAGE_VERSION", &found.version, version.to_owned()),
        (
            "TANDEM_ROLLBACK_INDEX",
            &found.rollback_index,
            index.to_string(),
        ),
    ]
    .into_iter()
    .find_map(|(key, found, wanted)| match found {
        Some(found) if *found != wanted => Some(format!("{key}={found}, not {wanted}")),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_and_what_differs() {
        let found = OsRelease::parse("IMAGE_ID=\"demo\"\nIMAGE_VERSION=1.0.0\n");
        assert_eq!(missing(&found), ["TANDEM_ROLLBACK_INDEX"]);
        assert_eq!(contradicts(&found, "demo", "1.0.0", 7), None);
        assert_eq!(
            contradicts(&found, "demo", "2.0.0", 7).unwrap(),
            "IMAGE_VERSION=1.0.0, not 2.0.0"
        );
    }
}
