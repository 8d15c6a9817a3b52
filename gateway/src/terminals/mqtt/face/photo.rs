//! Pictures in terminal messages: Base64 with or without a data-URL prefix, line breaks and padding.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The JPEG in this text; `None` when there is none, or something that is not a JPEG.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let text = match text.trim_start().strip_prefix("data:") {
        Some(data_url) => data_url.split_once(',')?.1,
        None => text,
    };
    let jpeg = if text.bytes().any(|b| b.is_ascii_whitespace()) {
        let packed: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
        LENIENT.decode(packed).ok()?
    } else {
        LENIENT.decode(text).ok()?
    };
    jpeg.starts_with(&[0xFF, 0xD8]).then_some(jpeg)
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
        assert_eq!(decode(&encode(&JPEG)).as_deref(), Some(&JPEG[..]));
        assert_eq!(decode(&bare).as_deref(), Some(&JPEG[..]));
        assert_eq!(decode(bare.trim_end_matches('=')).as_deref(), Some(&JPEG[..]));
        let broken: String = bare.chars().flat_map(|c| [c, '\r', '\n', ' ']).collect();
        assert_eq!(decode(&format!("data:image/jpeg;base64,{broken}")).as_deref(), Some(&JPEG[..]));
    }

    #[test]
    fn what_is_no_jpeg_is_no_photo() {
        for text in ["", " ", "data:", "data:image/jpeg;base64,", "*", "AAAA", "http://192.168.1.2/a.jpg"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}
