//! Signers of components.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64;
use ed25519_dalek::{SignatureError, VerifyingKey};

/// Prefix of a public key, as it is written.
const SCHEME: &str = "ed25519:";

/// The public key of somebody who signs components, written `ed25519:BASE64`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signer([u8; 32]);

/// Error for text that is not a public key.
#[derive(Debug, thiserror::Error)]
#[error("not a public key: {reason}")]
pub struct InvalidSigner {
    reason: &'static str,
}

impl Signer {
    /// Returns the key itself.
    ///
    /// # Errors
    /// Never for a signer that was read from text.
    pub fn key(&self) -> Result<VerifyingKey, SignatureError> {
        VerifyingKey::from_bytes(&self.0)
    }
}

impl From<&VerifyingKey> for Signer {
    fn from(key: &VerifyingKey) -> Self {
        Self(key.to_bytes())
    }
}

impl FromStr for Signer {
    type Err = InvalidSigner;

    fn from_str(text: &str) -> Result<Self, InvalidSigner> {
        let invalid = |reason| InvalidSigner { reason };
        let encoded = text.strip_prefix(SCHEME).ok_or_else(|| invalid("it doesn't begin with `ed25519:`"))?;
        let bytes = BASE64
            .decode(encoded.as_bytes())
            .map_err(|_| invalid("what follows `ed25519:` is not base64"))?;
        let bytes = bytes.try_into().map_err(|_| invalid("an ed25519 key has 32 bytes"))?;
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| invalid("no ed25519 key has these bytes"))?;
        if key.is_weak() {
            return Err(invalid("anybody can sign for a key like this"));
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", BASE64.encode(&self.0))
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;

    #[test]
    fn a_public_key_is_read_as_it_is_written() {
        let signer = Signer::from(&SigningKey::from_bytes(&[7; 32]).verifying_key());
        assert_eq!(signer.to_string().parse::<Signer>().expect("it was written by us"), signer);
        let weak = format!("{SCHEME}{}", BASE64.encode(&[0; 32]));
        for wrong in ["", "ed25519:", "ed25519:AAAA", "ed25519:!", &signer.to_string()[SCHEME.len()..], &weak]
        {
            assert!(wrong.parse::<Signer>().is_err(), "{wrong}");
        }
    }
}
