//! What a key does.

use chacha20poly1305::aead::Generate;
use chacha20poly1305::{KeyInit, XChaCha20Poly1305};
use sandhog_core::id::KeyId;
use sandhog_core::keyring::{Key, Keyring};

/// Makes a key by the system's source of chance.
#[must_use]
pub fn random_key() -> Key {
    Key::from_bytes(Generate::generate())
}

/// The cipher of the key of this id, if it is at hand.
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
