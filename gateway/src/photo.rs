//! Pictures as text: Base64 with or without a data-URL prefix, line breaks and padding.
//!
//! Says whether the text holds a JPEG, by its first bytes; knows neither what is in the picture nor where it came from.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Why a text is no photo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PhotoFault {
    #[error("is no Base64 text")]
    NotBase64,
    #[error("is Base64 text, but of no JPEG picture")]
    NotJpeg,
}

/// The JPEG in this text.
pub fn decode(text: &str) -> Result<Vec<u8>, PhotoFault> {
    let text = match text.trim_start().strip_prefix("data:") {
        Some(data_url) => data_url.split_once(',').ok_or(PhotoFault::NotBase64)?.1,
        None => text,
    };
    let jpeg = if text.bytes().any(|b| b.is_ascii_whitespace()) {
        let packed: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
        LENIENT.decode(packed)
    } else {
        LENIENT.decode(text)
    };
    let jpeg = jpeg.map_err(|_| PhotoFault::NotBase64)?;
    if jpeg.starts_with(&[0xFF, 0xD8]) { Ok(jpeg) } else { Err(PhotoFault::NotJpeg) }
}

/// The text a terminal sends for this picture.
pub fn encode(jpeg: &[u8]) -> String {
    format!("data:image/jpeg;base64,{}", base64::engine::general_purpose::STANDARD.encode(jpeg))
}

#[cfg(test)]
mod tests {
    use super::*;

    const JPEG: [u8; 5] = [0xFF, 0xD8, 1, 2, 3];

    #[test]
    fn prefix_line_breaks_and_missing_padding_do_not_matter() {
        let bare = base64::engine::general_purpose::STANDARD.encode(JPEG);
        assert_eq!(decode(&encode(&JPEG)).as_deref(), Ok(&JPEG[..]));
        assert_eq!(decode(&bare).as_deref(), Ok(&JPEG[..]));
        assert_eq!(decode(bare.trim_end_matches('=')).as_deref(), Ok(&JPEG[..]));
        let broken: String = bare.chars().flat_map(|c| [c, '\r', '\n', ' ']).collect();
        assert_eq!(decode(&format!("data:image/jpeg;base64,{broken}")).as_deref(), Ok(&JPEG[..]));
    }

    #[test]
    fn what_is_no_jpeg_is_no_photo() {
        for text in ["", " ", "data:image/jpeg;base64,", "AAAA", "data:image/png;base64,iVBORw0KGgo="] {
            assert_eq!(decode(text), Err(PhotoFault::NotJpeg), "{text}");
        }
        for text in ["data:", "*", "http://192.168.1.2/a.jpg", "/9j/4=AA"] {
            assert_eq!(decode(text), Err(PhotoFault::NotBase64), "{text}");
        }
    }
}
