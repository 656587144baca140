//! Decrypting pieces: AES-128 in CBC mode with PKCS #7 padding (RFC 8216 section 4.3.2.4).

use aws_lc_rs::cipher::{AES_128, DecryptionContext, PaddedBlockDecryptingKey, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;

/// The length of a key in bytes.
pub(crate) const KEY_BYTES: usize = 16;
/// The length of a block in bytes.
pub(crate) const BLOCK_BYTES: usize = 16;

/// Decrypts `bytes` in place and cuts off their padding.
///
/// # Errors
/// When they are no whole blocks, or their padding is wrong: the key, the vector or the bytes are
/// not those of the piece.
pub(crate) fn decrypt(
    key: &[u8; KEY_BYTES],
    iv: [u8; BLOCK_BYTES],
    bytes: &mut Vec<u8>,
) -> Result<(), NotDecrypted> {
    let key = UnboundCipherKey::new(&AES_128, key).map_err(|_| NotDecrypted)?;
    let key = PaddedBlockDecryptingKey::cbc_pkcs7(key).map_err(|_| NotDecrypted)?;
    let context = DecryptionContext::Iv128(FixedLength::from(iv));
    let plain_bytes = key.decrypt(bytes, context).map_err(|_| NotDecrypted)?.len();
    bytes.truncate(plain_bytes);
    Ok(())
}

/// The bytes cannot be decrypted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotDecrypted;

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by `openssl enc -aes-128-cbc -K 00..0f -iv ff..ff`.
    const SECRET: [u8; 32] = [
        0x4e, 0x42, 0xae, 0x6d, 0x1d, 0x73, 0x0b, 0x87, 0x63, 0x09, 0xc3, 0x69, 0x46, 0xbe, 0x24,
        0xca, 0x3e, 0x53, 0xba, 0x67, 0x77, 0x0b, 0x92, 0x73, 0xf5, 0x39, 0x33, 0x89, 0xea, 0xfb,
        0xa3, 0x81,
    ];

    #[test]
    fn what_openssl_encrypted_is_decrypted() {
        let key = std::array::from_fn(|at| u8::try_from(at).unwrap());
        let mut bytes = SECRET.to_vec();
        decrypt(&key, [0xff; 16], &mut bytes).unwrap();
        assert_eq!(bytes, b"seventeen letters");
    }

    #[test]
    fn wrong_bytes_are_refused() {
        let key = [0; KEY_BYTES];
        for len in [0, 1, 15, 17, 32] {
            assert_eq!(decrypt(&key, [0; 16], &mut vec![1; len]), Err(NotDecrypted), "{len}");
        }
    }
}
