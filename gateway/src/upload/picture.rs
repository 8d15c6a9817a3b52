//! Pictures as platforms take them: JPEG, small enough as Base64 text, without what cameras write beside the picture.

use std::io::Cursor;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, ImageReader, Limits};

/// A picture that has to be made smaller gets no side longer than this; then less, until it fits.
const SIDES: [u32; 3] = [320, 240, 160];
const QUALITIES: [u8; 4] = [85, 70, 50, 30];
/// More than any terminal's camera gives; a picture that claims more is not decoded.
const LONGEST_SIDE: u32 = 8_192;
const MOST_MEMORY: u64 = 128 * 1024 * 1024;

/// The picture cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    #[error("not a picture: {0}")]
    Unreadable(#[from] image::ImageError),
    #[error("not a picture: {0}")]
    Unknown(#[from] std::io::Error),
    #[error("does not fit into {limit_kib} KiB")]
    TooLarge { limit_kib: u32 },
}

/// The Base64 text of a picture, at most `limit_kib` KiB of it. Blocks for as long as decoding takes.
pub fn base64_within(bytes: &[u8], limit_kib: u32) -> Result<String, PictureError> {
    let limit = limit_kib as usize * 1024;
    if fits(bytes, limit) && is_plain_jpeg(bytes) {
        reader(bytes)?.into_dimensions()?;
        return Ok(STANDARD.encode(bytes));
    }
    let picture = reader(bytes)?.decode()?;
    for side in SIDES {
        let small =
            if picture.width().max(picture.height()) > side { picture.thumbnail(side, side) } else { picture.clone() };
        for quality in QUALITIES {
            let jpeg = encode(&small, quality)?;
            if fits(&jpeg, limit) {
                return Ok(STANDARD.encode(jpeg));
            }
        }
    }
    Err(PictureError::TooLarge { limit_kib })
}

fn fits(bytes: &[u8], limit: usize) -> bool {
    bytes.len().div_ceil(3) * 4 <= limit
}

/// Begins and ends as a JPEG, and carries no EXIF.
fn is_plain_jpeg(bytes: &[u8]) -> bool {
    let whole = bytes.starts_with(&[0xFF, 0xD8, 0xFF]) && bytes.ends_with(&[0xFF, 0xD9]);
    whole && !bytes.windows(6).any(|window| window == b"Exif\0\0")
}

fn reader(bytes: &[u8]) -> Result<ImageReader<Cursor<&[u8]>>, std::io::Error> {
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(LONGEST_SIDE);
    limits.max_image_height = Some(LONGEST_SIDE);
    limits.max_alloc = Some(MOST_MEMORY);
    reader.limits(limits);
    Ok(reader)
}

fn encode(picture: &DynamicImage, quality: u8) -> Result<Vec<u8>, image::ImageError> {
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, quality).encode_image(&picture.to_rgb8())?;
    Ok(jpeg)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture that does not compress well.
    fn noisy(side: u32, quality: u8) -> Vec<u8> {
        let mut state = 7_u32;
        let picture = image::RgbImage::from_fn(side, side, |_, _| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            image::Rgb([(state >> 24) as u8, (state >> 16) as u8, (state >> 8) as u8])
        });
        encode(&DynamicImage::ImageRgb8(picture), quality).unwrap()
    }

    fn decoded(base64: &str) -> DynamicImage {
        image::load_from_memory(&STANDARD.decode(base64).unwrap()).unwrap()
    }

    #[test]
    fn a_small_jpeg_is_sent_as_it_is() {
        let jpeg = include_bytes!("../../../tests/fixtures/platform/face_tiny.jpg");
        assert_eq!(base64_within(jpeg, 50).unwrap(), STANDARD.encode(jpeg));
    }

    #[test]
    fn a_large_picture_is_made_smaller_until_its_text_fits() {
        let jpeg = noisy(900, 95);
        assert!(jpeg.len() > 500_000);
        let text = base64_within(&jpeg, 50).unwrap();
        assert!(text.len() <= 50 * 1024, "{}", text.len());
        assert!(decoded(&text).width() <= 320);
        assert!(base64_within(&jpeg, 8).unwrap().len() <= 8 * 1024);
        assert!(matches!(base64_within(&jpeg, 1), Err(PictureError::TooLarge { limit_kib: 1 })));
    }

    #[test]
    fn what_a_camera_wrote_beside_the_picture_does_not_leave_the_site() {
        let jpeg = noisy(32, 80);
        let mut with_exif = vec![0xFF, 0xD8, 0xFF, 0xE1, 0x00, 0x0E];
        with_exif.extend_from_slice(b"Exif\0\0MM\0*secr");
        with_exif.truncate(4 + 0x0E);
        with_exif.extend_from_slice(&jpeg[2..]);
        let text = base64_within(&with_exif, 50).unwrap();
        let sent = STANDARD.decode(&text).unwrap();
        assert!(!sent.windows(4).any(|window| window == b"Exif"));
        assert_eq!(decoded(&text).width(), 32);
    }

    #[test]
    fn what_is_no_picture_is_left_out() {
        assert!(base64_within(b"no picture at all", 50).is_err());
        assert!(base64_within(&[], 50).is_err());
        let half = noisy(64, 80);
        assert!(base64_within(&half[..40], 50).is_err());
    }
}
