//! ID and bank card numbers in AES-CBC as this family wants them.
//!
//! The secret is the key and its first 16 bytes the initial vector, so equal numbers give equal texts: this hides nothing
//! that matters and is no replacement for a protected link.

use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use aes::{Aes128, Aes192, Aes256};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::config::{AesKey, Secret};
use crate::upload::profiles::ProfileError;

/// Encrypts and decrypts single fields.
pub struct Cipher {
    key: Vec<u8>,
    iv: [u8; 16],
}

impl std::fmt::Debug for Cipher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cipher(…)")
    }
}

impl Cipher {
    /// The cipher of a secret of 16, 24 or 32 bytes.
    pub fn new(secret: &Secret, aes_key: AesKey) -> Result<Cipher, ProfileError> {
        let bytes = secret.0.as_bytes();
        if !matches!(bytes.len(), 16 | 24 | 32) {
            return Err(ProfileError::SecretLength(bytes.len()));
        }
        let mut iv = [0; 16];
        iv.copy_from_slice(&bytes[..16]);
        let key = match aes_key {
            AesKey::Full => bytes.to_vec(),
            AesKey::First16 => bytes[..16].to_vec(),
        };
        Ok(Cipher { key, iv })
    }

    /// Standard Base64 with padding, without line breaks.
    pub fn encrypt(&self, plain: &str) -> String {
        let plain = plain.as_bytes();
        let sealed = match self.key.len() {
            16 => self.encryptor::<Aes128Cbc>().encrypt_padded_vec::<Pkcs7>(plain),
            24 => self.encryptor::<Aes192Cbc>().encrypt_padded_vec::<Pkcs7>(plain),
            _ => self.encryptor::<Aes256Cbc>().encrypt_padded_vec::<Pkcs7>(plain),
        };
        STANDARD.encode(sealed)
    }

    /// The plain text; `None` when it is not of this cipher.
    pub fn decrypt(&self, text: &str) -> Option<String> {
        let sealed = STANDARD.decode(text.trim()).ok()?;
        let plain = match self.key.len() {
            16 => self.encryptor::<Aes128Open>().decrypt_padded_vec::<Pkcs7>(&sealed),
            24 => self.encryptor::<Aes192Open>().decrypt_padded_vec::<Pkcs7>(&sealed),
            _ => self.encryptor::<Aes256Open>().decrypt_padded_vec::<Pkcs7>(&sealed),
        };
        String::from_utf8(plain.ok()?).ok()
    }

    fn encryptor<M: KeyIvInit>(&self) -> M {
        M::new_from_slices(&self.key, &self.iv).expect("the lengths were checked when the cipher was made")
    }
}

type Aes128Cbc = cbc::Encryptor<Aes128>;
type Aes192Cbc = cbc::Encryptor<Aes192>;
type Aes256Cbc = cbc::Encryptor<Aes256>;
type Aes128Open = cbc::Decryptor<Aes128>;
type Aes192Open = cbc::Decryptor<Aes192>;
type Aes256Open = cbc::Decryptor<Aes256>;

#[cfg(test)]
mod tests {
    use super::super::vectors::{family_a, text};
    use super::*;

    #[test]
    fn the_published_numbers_encrypt_and_decrypt() {
        let vectors = family_a();
        let rows = vectors["aes"].as_array().unwrap();
        assert_eq!(rows.len(), 8);
        for row in rows {
            let cipher = Cipher::new(&Secret(text(row, "secret").to_owned()), AesKey::Full).unwrap();
            assert_eq!(cipher.encrypt(text(row, "plain")), text(row, "base64"));
            assert_eq!(cipher.decrypt(text(row, "base64")).as_deref(), Some(text(row, "plain")));
        }
    }

    #[test]
    fn the_short_key_dialect_uses_16_bytes_of_a_long_secret() {
        let vectors = family_a();
        let row = &vectors["aes_key_first16_of_32"];
        let cipher = Cipher::new(&Secret(text(row, "secret").to_owned()), AesKey::First16).unwrap();
        assert_eq!(cipher.encrypt(text(row, "plain")), text(row, "base64"));
    }

    #[test]
    fn a_secret_of_another_length_is_refused() {
        let refused = Cipher::new(&Secret("short".to_owned()), AesKey::Full);
        assert_eq!(refused.err(), Some(ProfileError::SecretLength(5)));
    }

    #[test]
    fn noise_does_not_decrypt() {
        let cipher = Cipher::new(&Secret("1234567890abcdef".to_owned()), AesKey::Full).unwrap();
        assert_eq!(cipher.decrypt("not base64"), None);
        assert_eq!(cipher.decrypt("AAAA"), None);
    }
}
