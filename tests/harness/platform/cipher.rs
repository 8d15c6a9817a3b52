//! The platform's side of signature and field cipher, from the interface text.

use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use std::collections::HashMap;

/// The signature that the parameters should carry.
pub fn expected_sign(params: &HashMap<String, String>, secret: &str) -> String {
    let mut pairs: Vec<String> =
        params.iter().filter(|(name, _)| *name != "sign").map(|(name, value)| format!("{name}={value}")).collect();
    pairs.sort_by(|a, b| a.split('=').next().cmp(&b.split('=').next()));
    pairs.push(format!("appsecret={secret}"));
    let digest = Sha256::digest(pairs.join("&").to_lowercase().as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Plain text of a field; the secret has 16 or 32 bytes.
pub fn open(secret: &str, text: &str) -> Option<String> {
    let (key, iv) = (secret.as_bytes(), &secret.as_bytes()[..16]);
    let sealed = STANDARD.decode(text).ok()?;
    let plain = if key.len() == 16 {
        cbc::Decryptor::<aes::Aes128>::new_from_slices(key, iv).ok()?.decrypt_padded_vec::<Pkcs7>(&sealed)
    } else {
        cbc::Decryptor::<aes::Aes256>::new_from_slices(key, iv).ok()?.decrypt_padded_vec::<Pkcs7>(&sealed)
    };
    String::from_utf8(plain.ok()?).ok()
}

/// A field as the platform gives it out.
pub fn seal(secret: &str, plain: &str) -> String {
    let (key, iv) = (secret.as_bytes(), &secret.as_bytes()[..16]);
    let sealed = if key.len() == 16 {
        let cipher = cbc::Encryptor::<aes::Aes128>::new_from_slices(key, iv).expect("16 bytes each");
        cipher.encrypt_padded_vec::<Pkcs7>(plain.as_bytes())
    } else {
        let cipher = cbc::Encryptor::<aes::Aes256>::new_from_slices(key, iv).expect("the secret has 32 bytes");
        cipher.encrypt_padded_vec::<Pkcs7>(plain.as_bytes())
    };
    STANDARD.encode(sealed)
}

/// 18 characters, a good check digit (GB 11643).
pub fn is_id_number(text: &str) -> bool {
    const WEIGHTS: [u32; 17] = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];
    let bytes = text.as_bytes();
    if bytes.len() != 18 || !bytes[..17].iter().all(u8::is_ascii_digit) {
        return false;
    }
    let sum: u32 = bytes.iter().zip(WEIGHTS).map(|(byte, weight)| u32::from(byte - b'0') * weight).sum();
    bytes[17] == b"10X98765432"[(sum % 11) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vectors() -> serde_json::Value {
        serde_json::from_str(include_str!("../../fixtures/platform/family_a.json")).unwrap()
    }

    #[test]
    fn the_published_signatures_are_expected() {
        for row in vectors()["family_a"].as_array().unwrap() {
            let params = row["params"].as_object().unwrap().iter();
            let params = params.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect();
            assert_eq!(expected_sign(&params, row["secret"].as_str().unwrap()), row["sign"].as_str().unwrap());
        }
    }

    #[test]
    fn the_published_fields_open_and_seal() {
        for row in vectors()["aes"].as_array().unwrap() {
            let (secret, plain) = (row["secret"].as_str().unwrap(), row["plain"].as_str().unwrap());
            assert_eq!(open(secret, row["base64"].as_str().unwrap()).as_deref(), Some(plain));
            assert_eq!(seal(secret, plain), row["base64"].as_str().unwrap());
        }
    }

    #[test]
    fn check_digits_are_checked() {
        assert!(is_id_number("110101194912310016"));
        assert!(is_id_number("11010119491231018X"));
        assert!(!is_id_number("110101194912310017"));
        assert!(!is_id_number("11010119491231"));
    }
}
