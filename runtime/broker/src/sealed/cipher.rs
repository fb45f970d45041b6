//! Keys and their cipher, XChaCha20-Poly1305.

use chacha20poly1305::aead::Generate;
use chacha20poly1305::{KeyInit, XChaCha20Poly1305};
use sandhog_core::id::KeyId;
use sandhog_core::keyring::{Key, Keyring};

/// Creates a random key, from the system's source of randomness.
#[must_use]
pub fn random_key() -> Key {
    Key::from_bytes(Generate::generate())
}

/// Returns the cipher of the key with this id, or `None` if the keyring has no such key.
pub(super) fn cipher(keys: &Keyring, id: &KeyId) -> Option<XChaCha20Poly1305> {
    keys.key(id).map(|key| XChaCha20Poly1305::new(key.as_bytes().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_keys_are_the_same() {
        assert_ne!(random_key(), random_key());
    }
}
