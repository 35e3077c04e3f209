//! U-Boot's legacy image format, as far as a script needs it: a header of 64 bytes, big-endian numbers, both parts with
//! a CRC-32 (documented in U-Boot's `doc/usage/fit/…` and by the output of `mkimage -l`).

/// First bytes of an image.
const MAGIC: u32 = 0x2705_1956;
const HEADER: usize = 64;
const CRC_AT: usize = 4;
/// Linux, arm64, script, not compressed.
const KIND: [u8; 4] = [5, 22, 6, 0];
const NAME: &[u8] = b"tandem";

/// The script is longer than the format can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a boot script of {0} bytes is too long")]
pub struct ImageError(pub usize);

/// The content of `boot.scr` for a script. The time in it is 1970, so that the same script gives the same bytes.
///
/// # Errors
/// The script is longer than 4 GiB.
pub fn boot_scr(script: &str) -> Result<Vec<u8>, ImageError> {
    let too_long = |_| ImageError(script.len());
    // The data are a list of the lengths of its parts, ended by 0, and the parts: here one.
    let length = u32::try_from(script.len()).map_err(too_long)?;
    let mut data = length.to_be_bytes().to_vec();
    data.extend([0; 4]);
    data.extend(script.as_bytes());
    let data_length = u32::try_from(data.len()).map_err(too_long)?;

    let mut image = Vec::with_capacity(HEADER + data.len());
    for number in [MAGIC, 0, 0, data_length, 0, 0, crc32fast::hash(&data)] {
        image.extend(number.to_be_bytes());
    }
    image.extend(KIND);
    image.extend(NAME);
    image.resize(HEADER, 0);
    let crc = crc32fast::hash(&image);
    if let Some(place) = image.get_mut(CRC_AT..CRC_AT + 4) {
        place.copy_from_slice(&crc.to_be_bytes());
    }
    image.extend(data);
    Ok(image)
}
