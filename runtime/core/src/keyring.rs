//! Keys with which a tenant's data is sealed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use zeroize::Zeroizing;

use crate::id::KeyId;

const KEY_BYTES: usize = 32;

/// A key: 32 random bytes. It is never shown, and is wiped from memory when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Zeroizing<[u8; KEY_BYTES]>);

/// Error for text that is not a key; the text is not shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not a key: 32 bytes, in base64 (44 characters) or as 64 hexadecimal digits")]
pub struct NoKey;

impl Key {
    /// Creates a key from these bytes, which have to be random.
    #[must_use]
    pub fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Returns the bytes, for a cipher.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// Parses base64 or hexadecimal digits; white space around them is ignored.
    ///
    /// # Errors
    /// If the text is neither, or of another length.
    pub fn parse(text: &str) -> Result<Self, NoKey> {
        let text = text.trim().as_bytes();
        let encoding = if text.len() == 2 * KEY_BYTES { &HEXLOWER_PERMISSIVE } else { &BASE64 };
        let bytes = Zeroizing::new(encoding.decode(text).map_err(|_| NoKey)?);
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        if bytes.len() != KEY_BYTES {
            return Err(NoKey);
        }
        key.copy_from_slice(&bytes);
        Ok(Self(key))
    }

    /// Returns the key in base64, as [`Self::parse`] reads it.
    #[must_use]
    pub fn reveal(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE64.encode(&*self.0))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

/// Treatment of data that is stored in plain text under a tenant that has keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Plain {
    /// Plain data is refused: anybody who can write to the store could have put it there.
    #[default]
    Refused,
    /// Plain data is read as it stands, for the time in which data from before the keys is still about.
    Read,
}

/// Keys of one tenant. All of them open sealed data; the active one seals.
#[derive(Clone, PartialEq, Eq)]
pub struct Keyring(Arc<Keys>);

#[derive(PartialEq, Eq)]
struct Keys {
    active: KeyId,
    keys: BTreeMap<KeyId, Key>,
    plain: Plain,
}

impl Keyring {
    /// Creates a keyring of the keys that are available. If the active one isn't, the tenant's data can be read and not
    /// written.
    #[must_use]
    pub fn new(active: KeyId, keys: BTreeMap<KeyId, Key>, plain: Plain) -> Self {
        Self(Arc::new(Keys { active, keys, plain }))
    }

    /// Returns the id of the key that seals.
    #[must_use]
    pub fn active(&self) -> &KeyId {
        &self.0.active
    }

    /// Returns the treatment of plain data.
    #[must_use]
    pub fn plain(&self) -> Plain {
        self.0.plain
    }

    /// Returns the key with this id; `None` if it isn't available.
    #[must_use]
    pub fn key(&self, id: &KeyId) -> Option<&Key> {
        self.0.keys.get(id)
    }
}

/// Shows the ids alone, never a key.
impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Keys { active, keys, plain } = &*self.0;
        let ids: Vec<&KeyId> = keys.keys().collect();
        f.debug_struct("Keyring").field("active", active).field("keys", &ids).field("plain", plain).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_in_both_notations_and_never_shown() {
        let key = Key::from_bytes(std::array::from_fn(|n| (n as u8).wrapping_mul(7).wrapping_add(200)));
        let text = key.reveal();
        assert_eq!(Key::parse(&format!(" {}\n", *text)).expect("a key").0, key.0);
        let hex: String = key.0.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(Key::parse(&hex).expect("a key").0, key.0);
        assert_eq!(Key::parse(&hex.to_uppercase()).expect("a key").0, key.0);
        let id = KeyId::parse("k1").expect("a valid id");
        let ring = Keyring::new(id.clone(), BTreeMap::from([(id, key.clone())]), Plain::Refused);
        let shown = format!("{key:?} {ring:?}");
        assert!(shown.contains("k1") && !shown.contains(&**text) && !shown.contains(&hex), "{shown}");
        for wrong in [
            "",
            "short",
            &hex[..62],
            &format!("{hex}00"),
            &text[..40],
            "hunter2hunter2hunter2hunter2hunter2hunter2!!",
        ] {
            let refusal = Key::parse(wrong).expect_err("no key").to_string();
            assert!(wrong.is_empty() || !refusal.contains(wrong), "{refusal}");
        }
    }

    #[test]
    fn rings_with_another_key_under_the_same_id_are_not_the_same() {
        let id = KeyId::parse("k1").expect("a valid id");
        let ring =
            |key: &Key| Keyring::new(id.clone(), BTreeMap::from([(id.clone(), key.clone())]), Plain::Refused);
        let (key, other) = (Key::from_bytes([1; KEY_BYTES]), Key::from_bytes([2; KEY_BYTES]));
        assert!(ring(&key) == ring(&key) && ring(&key) != ring(&other));
    }
}
