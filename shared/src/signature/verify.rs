//! Signatures and hashes.

use ed25519_compact::{PublicKey, Signature, sha512 as sha};

use super::block::{HASH_BYTES, SIGNED_BYTES, Signed};

/// Length of a public key.
pub const KEY_BYTES: usize = 32;

impl Signed {
    /// Whether the owner of this key has signed this block. What it says of an image holds where the
    /// image has its length and its SHA-512.
    pub fn verify(&self, key: &[u8; KEY_BYTES]) -> bool {
        let bytes = self.to_bytes();
        PublicKey::new(*key)
            .verify(&bytes[..SIGNED_BYTES], &Signature::new(self.signature))
            .is_ok()
    }
}

/// SHA-512 (FIPS 180-4) of bytes that come piece by piece.
pub struct Hasher(sha::Hash);

impl Hasher {
    /// Of no bytes yet.
    pub fn new() -> Self {
        Self(sha::Hash::new())
    }

    /// Goes on.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The hash of all bytes.
    pub fn finish(self) -> [u8; HASH_BYTES] {
        self.0.finalize()
    }
}

impl Default for Hasher {
    fn default() -> Self {
        Self::new()
    }
}

/// SHA-512 of `bytes`.
pub fn sha512(bytes: &[u8]) -> [u8; HASH_BYTES] {
    let mut hasher = Hasher::new();
    hasher.update(bytes);
    hasher.finish()
}

/// [`Signed::key_id`] of a public key.
pub fn key_id(key: &[u8; KEY_BYTES]) -> [u8; 8] {
    let mut id = [0; 8];
    id.copy_from_slice(&sha512(key)[..8]);
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex<const N: usize>(text: &str) -> [u8; N] {
        core::array::from_fn(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).expect("hex"))
    }

    #[test]
    fn sha_512_of_abc_is_that_of_fips_180_4() {
        let expected = hex(
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        );
        assert_eq!(sha512(b"abc"), expected);
        let mut pieces = Hasher::new();
        pieces.update(b"a");
        pieces.update(b"bc");
        assert_eq!(pieces.finish(), expected);
    }

    #[test]
    fn any_changed_bit_of_a_signed_block_or_another_key_is_refused() {
        // RFC 8032, section 7.1, the key of test 2.
        let pair = ed25519_compact::KeyPair::from_seed(ed25519_compact::Seed::new(hex(
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        )));
        let key: [u8; 32] = *pair.pk;
        assert_eq!(
            key,
            hex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
        );
        let mut block = Signed {
            version: 3,
            len: 1000,
            crc: 12,
            key_id: key_id(&key),
            hash: sha512(b"image"),
            signature: [0; 64],
        };
        block.signature = *pair.sk.sign(&block.to_bytes()[..SIGNED_BYTES], None);
        assert!(block.verify(&key));
        let bytes = block.to_bytes();
        let mut undecodable = 0;
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            match Signed::from_bytes(&bad) {
                Some(bad) => assert!(!bad.verify(&key), "bit {bit}"),
                None => undecodable += 1,
            }
        }
        assert_eq!(undecodable, 8 * 12);
        for bit in 0..256 {
            let mut other = key;
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(!block.verify(&other), "bit {bit} of the key");
        }
    }
}
