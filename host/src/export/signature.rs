//! Signed images and patches: keys, signatures, and what a file's signature is worth.
//!
//! Key files are those of OpenSSL (`openssl genpkey -algorithm ed25519`): PKCS#8 for the private
//! key, SubjectPublicKeyInfo for the public one, both in PEM.

use ed25519_compact::{KeyPair, PublicKey, SecretKey};
use qmend_shared::link::frame::crc32;
use qmend_shared::signature::{SIGNED_BYTES, Signed, key_id, sha512, split};
use thiserror::Error;

/// What is wrong with a key or a signature.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// The text is no private key.
    #[error("not an Ed25519 private key in PEM (PKCS#8)")]
    PrivateKey,
    /// The text is no public key.
    #[error("not an Ed25519 public key in PEM")]
    PublicKey,
    /// The system gives no random numbers.
    #[error("the system gives no random numbers for a key: {reason}")]
    Random {
        /// The system's reason.
        reason: String,
    },
    /// The version is 0.
    #[error("versions count from 1: 0 stands for images that nobody signed")]
    Version,
    /// The image is longer than a block can say.
    #[error("an image of {bytes} bytes is longer than 2^32 - 1")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// The block behind the file is none that this version knows.
    #[error("the signature behind it is none that this version reads")]
    Block,
    /// The block speaks of another image.
    #[error(
        "it is not the image that was signed: the file was changed, or the signature is another file's"
    )]
    OtherImage,
    /// The block was not signed by this key.
    #[error("the signature is not of key {wanted} (it says that it is of {found})")]
    OtherKey {
        /// The key's id.
        wanted: String,
        /// The id in the block, which proves nothing.
        found: String,
    },
}

/// A private key.
pub struct SigningKey(KeyPair);

impl SigningKey {
    /// A new one, from the system's random numbers.
    ///
    /// # Errors
    /// Where the system has none.
    pub fn generate() -> Result<Self, SignatureError> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|e| SignatureError::Random {
            reason: e.to_string(),
        })?;
        Ok(Self(KeyPair::from_seed(ed25519_compact::Seed::new(seed))))
    }

    /// Reads a private key's file.
    ///
    /// # Errors
    /// Text that is none.
    pub fn from_pem(text: &str) -> Result<Self, SignatureError> {
        // Only the seed is taken from the file: the public key is computed from it.
        let secret = SecretKey::from_pem(text).map_err(|_| SignatureError::PrivateKey)?;
        Ok(Self(KeyPair::from_seed(secret.seed())))
    }

    /// The private key's file.
    pub fn to_pem(&self) -> String {
        self.0.sk.to_pem()
    }

    /// The key that verifies what this one signs.
    pub fn public(&self) -> VerifyingKey {
        VerifyingKey(*self.0.pk)
    }

    /// Signs an image as this version of its model.
    ///
    /// # Errors
    /// Version 0.
    pub fn sign(&self, image: &[u8], version: u32) -> Result<Signed, SignatureError> {
        if version == 0 {
            return Err(SignatureError::Version);
        }
        let bytes = image.len();
        let mut block = Signed {
            version,
            len: u32::try_from(bytes).map_err(|_| SignatureError::TooLong { bytes })?,
            crc: crc32(image),
            key_id: key_id(&self.0.pk),
            hash: sha512(image),
            signature: [0; 64],
        };
        // Deterministic, as in RFC 8032: the same image signed twice gives the same file.
        block.signature = *self.0.sk.sign(&block.to_bytes()[..SIGNED_BYTES], None);
        Ok(block)
    }
}

/// A public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifyingKey(pub [u8; 32]);

impl VerifyingKey {
    /// Reads a public key's file.
    ///
    /// # Errors
    /// Text that is none.
    pub fn from_pem(text: &str) -> Result<Self, SignatureError> {
        let key = PublicKey::from_pem(text).map_err(|_| SignatureError::PublicKey)?;
        Ok(Self(*key))
    }

    /// The public key's file.
    pub fn to_pem(&self) -> String {
        PublicKey::new(self.0).to_pem()
    }

    /// Its short name.
    pub fn id(&self) -> String {
        hex(&key_id(&self.0))
    }
}

/// What lies behind an image or a patch in a file, which is cut off: see
/// [`qmend_shared::signature::split`].
///
/// # Errors
/// [`SignatureError::Block`] where it is no block that this version reads.
pub fn take(file: &[u8]) -> Result<(&[u8], Option<Signed>), SignatureError> {
    match split(file) {
        (content, None) => Ok((content, None)),
        (content, Some(block)) => match Signed::from_bytes(block) {
            Some(block) => Ok((content, Some(block))),
            None => Err(SignatureError::Block),
        },
    }
}

/// Whether a block speaks of this image, and, with a key, whether the key's owner signed it.
///
/// # Errors
/// [`SignatureError::OtherImage`], [`SignatureError::OtherKey`].
pub fn check(
    image: &[u8],
    block: &Signed,
    key: Option<&VerifyingKey>,
) -> Result<(), SignatureError> {
    let same = (image.len() as u64, crc32(image)) == (u64::from(block.len), block.crc);
    if !same || sha512(image) != block.hash {
        return Err(SignatureError::OtherImage);
    }
    match key {
        Some(key) if !block.verify(&key.0) => Err(SignatureError::OtherKey {
            wanted: key.id(),
            found: hex(&block.key_id),
        }),
        _ => Ok(()),
    }
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8410, section 10.3 (the private key) and 10.1 (its public key).
    const PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
    const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";

    #[test]
    fn key_files_are_those_of_rfc_8410() {
        let key = SigningKey::from_pem(PRIVATE).expect("a private key");
        assert_eq!(key.to_pem().replace('\r', ""), PRIVATE);
        assert_eq!(key.public().to_pem().replace('\r', ""), PUBLIC);
        assert_eq!(VerifyingKey::from_pem(PUBLIC), Ok(key.public()));
        assert!(matches!(
            SigningKey::from_pem(PUBLIC),
            Err(SignatureError::PrivateKey)
        ));
        assert_eq!(
            VerifyingKey::from_pem(PRIVATE),
            Err(SignatureError::PublicKey)
        );
    }

    #[test]
    fn a_signature_holds_for_its_image_and_its_key_alone() {
        let key = SigningKey::generate().expect("random numbers");
        let other = SigningKey::generate().expect("random numbers").public();
        assert_ne!(key.public(), other);
        let block = key.sign(b"an image", 3).expect("a version");
        assert_eq!(key.sign(b"an image", 3), Ok(block));
        assert_eq!(check(b"an image", &block, None), Ok(()));
        assert_eq!(check(b"an image", &block, Some(&key.public())), Ok(()));
        assert_eq!(
            check(b"an imagf", &block, None),
            Err(SignatureError::OtherImage)
        );
        assert_eq!(
            check(b"an image", &block, Some(&other)),
            Err(SignatureError::OtherKey {
                wanted: other.id(),
                found: key.public().id()
            })
        );
        let newer = Signed {
            version: 4,
            ..block
        };
        assert!(check(b"an image", &newer, Some(&key.public())).is_err());
        assert_eq!(key.sign(b"an image", 0), Err(SignatureError::Version));
    }
}
