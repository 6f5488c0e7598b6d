//! The key of an encrypted capture, and the keys of its files.
//!
//! Envelope encryption in the form of Parquet's key tools, so that other readers open the files:
//! each file has a random key of its own, wrapped with the capture's key, in its footer's key
//! metadata (`KeyMaterial` of parquet-format's key management, single wrapping; the wrapping is that
//! of parquet-java's `LocalWrapKmsClient`: AES-GCM, nonce ‖ ciphertext ‖ tag, the master key's
//! identifier as additional data).

use std::fmt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use parquet::encryption::decrypt::{FileDecryptionProperties, KeyRetriever};
use parquet::encryption::encrypt::FileEncryptionProperties;
use parquet::errors::ParquetError;
use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

use super::CaptureError;
use crate::secret::read_secret;

/// Length of a file's own key.
const FILE_KEY: usize = 32;

/// The key of an encrypted capture.
#[derive(Clone, PartialEq, Eq)]
pub struct CaptureKey {
    bytes: Vec<u8>,
    id: String,
}

/// Says which key it is, never what it is.
impl fmt::Debug for CaptureKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CaptureKey").field(&self.id).finish()
    }
}

/// A file's key as its footer holds it; the names are those of Parquet's key tools.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeyMaterial {
    key_material_type: String,
    internal_storage: bool,
    is_footer_key: bool,
    #[serde(rename = "kmsInstanceID")]
    kms_instance_id: String,
    #[serde(rename = "kmsInstanceURL")]
    kms_instance_url: String,
    #[serde(rename = "masterKeyID")]
    master_key_id: String,
    #[serde(rename = "wrappedDEK")]
    wrapped_dek: String,
    double_wrapping: bool,
}

impl CaptureKey {
    /// A key of 16 or 32 random bytes (AES-128 or AES-256).
    ///
    /// # Errors
    /// Any other length; a sentence.
    pub fn new(bytes: Vec<u8>) -> Result<Self, String> {
        if ![AES_128_GCM.key_len(), AES_256_GCM.key_len()].contains(&bytes.len()) {
            return Err(format!(
                "it holds {} bytes and must hold 16 or 32 random ones: head -c 32 /dev/urandom",
                bytes.len()
            ));
        }
        let key = hmac::Key::new(hmac::HMAC_SHA256, &bytes);
        let tag = hmac::sign(&key, b"inferdiff capture key");
        let id = tag.as_ref().iter().take(8);
        let id = id.map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { bytes, id })
    }

    /// Reads the key from a file that only its owner may read.
    ///
    /// # Errors
    /// [`CaptureError::Key`]: unreadable, readable for others, or of another length.
    pub fn read(path: &Path) -> Result<Self, CaptureError> {
        read_secret(path)
            .and_then(Self::new)
            .map_err(|why| CaptureError::Key {
                path: path.to_owned(),
                why,
            })
    }

    /// Names the key without telling it: 16 hexadecimal digits of an HMAC-SHA-256 under it.
    pub fn id(&self) -> &str {
        &self.id
    }

    fn cipher(&self) -> LessSafeKey {
        let algorithm = if self.bytes.len() == AES_128_GCM.key_len() {
            &AES_128_GCM
        } else {
            &AES_256_GCM
        };
        let key = UnboundKey::new(algorithm, &self.bytes);
        LessSafeKey::new(key.expect("the length was checked when the key was made"))
    }

    /// How the next file is encrypted: a new random key for its footer and every column.
    pub(super) fn for_new_file(&self) -> Result<Arc<FileEncryptionProperties>, ParquetError> {
        let random = SystemRandom::new();
        let no_random = |_| ParquetError::General("the system gives no random bytes".to_owned());
        let (mut key, mut nonce) = ([0; FILE_KEY], [0; NONCE_LEN]);
        random.fill(&mut key).map_err(no_random)?;
        random.fill(&mut nonce).map_err(no_random)?;
        let mut sealed = key.to_vec();
        let seal = self.cipher().seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(self.id.as_bytes()),
            &mut sealed,
        );
        seal.map_err(|_| ParquetError::General("a file's key cannot be wrapped".to_owned()))?;
        let material = KeyMaterial {
            key_material_type: "PKMT1".to_owned(),
            internal_storage: true,
            is_footer_key: true,
            kms_instance_id: "DEFAULT".to_owned(),
            kms_instance_url: "DEFAULT".to_owned(),
            master_key_id: self.id.clone(),
            wrapped_dek: STANDARD.encode([&nonce[..], &sealed].concat()),
            double_wrapping: false,
        };
        let metadata =
            serde_json::to_vec(&material).expect("strings and booleans always serialise to JSON");
        // No column keys: the footer's key encrypts every column too (uniform encryption).
        FileEncryptionProperties::builder(key.to_vec())
            .with_footer_key_metadata(metadata)
            .build()
    }
}

/// Unwraps a file's key, and keeps why it could not.
pub(super) struct Unwrap {
    key: CaptureKey,
    refused: OnceLock<Refused>,
}

enum Refused {
    OtherKey(String),
    Damaged,
}

impl Unwrap {
    pub fn new(key: &CaptureKey) -> Arc<Self> {
        Arc::new(Self {
            key: key.clone(),
            refused: OnceLock::new(),
        })
    }

    pub fn properties(self: &Arc<Self>) -> Result<Arc<FileDecryptionProperties>, ParquetError> {
        FileDecryptionProperties::with_key_retriever(self.clone()).build()
    }

    /// Where the file has another key: the error that says which.
    pub fn wrong_key(&self, path: &Path) -> Option<CaptureError> {
        match self.refused.get() {
            Some(Refused::OtherKey(needed)) => Some(CaptureError::WrongKey {
                path: path.to_owned(),
                needed: needed.clone(),
                given: self.key.id.clone(),
            }),
            _ => None,
        }
    }

    fn unwrap(&self, metadata: &[u8]) -> Result<Vec<u8>, Refused> {
        let material: KeyMaterial =
            serde_json::from_slice(metadata).map_err(|_| Refused::Damaged)?;
        if material.master_key_id != self.key.id {
            return Err(Refused::OtherKey(material.master_key_id));
        }
        let wrapped = STANDARD.decode(&material.wrapped_dek);
        let mut wrapped = wrapped.map_err(|_| Refused::Damaged)?;
        if wrapped.len() < NONCE_LEN {
            return Err(Refused::Damaged);
        }
        let mut sealed = wrapped.split_off(NONCE_LEN);
        let nonce = Nonce::try_assume_unique_for_key(&wrapped).map_err(|_| Refused::Damaged)?;
        let aad = Aad::from(self.key.id.as_bytes());
        let opened = self.key.cipher().open_in_place(nonce, aad, &mut sealed);
        opened.map(|key| key.to_vec()).map_err(|_| Refused::Damaged)
    }
}

impl KeyRetriever for Unwrap {
    fn retrieve_key(&self, key_metadata: &[u8]) -> Result<Vec<u8>, ParquetError> {
        self.unwrap(key_metadata).map_err(|refused| {
            // The first one stays; both say the same of one file.
            let _ = self.refused.set(refused);
            ParquetError::General("the file's key cannot be unwrapped".to_owned())
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may fail loudly")]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_itself_and_never_shows_itself() {
        let key = CaptureKey::new(vec![7; 32]).unwrap();
        assert_eq!(key.id().len(), 16);
        assert_ne!(key.id(), CaptureKey::new(vec![8; 32]).unwrap().id());
        let shown = format!("{key:?}");
        assert!(
            shown.contains(key.id()) && !shown.contains("7, 7"),
            "{shown}"
        );
        for length in [0, 15, 17, 24, 33] {
            assert!(CaptureKey::new(vec![1; length]).is_err(), "{length}");
        }
    }

    #[test]
    fn only_the_right_key_unwraps_and_only_what_is_whole() {
        let key = CaptureKey::new(vec![7; 16]).unwrap();
        let file = key.for_new_file().unwrap();
        let metadata = file.footer_key_metadata().unwrap();
        let unwrapped = Unwrap::new(&key).retrieve_key(metadata).unwrap();
        assert_eq!(&unwrapped, file.footer_key());
        assert_ne!(key.for_new_file().unwrap().footer_key(), file.footer_key());

        let other = Unwrap::new(&CaptureKey::new(vec![8; 16]).unwrap());
        assert!(other.retrieve_key(metadata).is_err());
        let said = other
            .wrong_key(Path::new("/c/x.parquet"))
            .unwrap()
            .to_string();
        assert!(
            said.contains(key.id()) && said.contains("/c/x.parquet"),
            "{said}"
        );

        let text = String::from_utf8(metadata.clone()).unwrap();
        let flipped = text.replace("wrappedDEK\":\"", "wrappedDEK\":\"AAAA");
        let damaged = Unwrap::new(&key);
        assert!(damaged.retrieve_key(flipped.as_bytes()).is_err());
        assert!(damaged.wrong_key(Path::new("x")).is_none());
    }
}
