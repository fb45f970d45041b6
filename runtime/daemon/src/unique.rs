//! Unique keys in the form in which a store holds them.
//!
//! A store holds a tenant's keys in one space. So that keys of different kinds don't meet in it, the kind is stored with the
//! key: `report.daily/2026-11-24`. A key that a store has from before that is the bare key; it is shown and held as it is, and
//! meets no key of now.

use data_encoding::HEXLOWER;
use sandhog_core::id::{Kind, UniqueKey};
pub use sandhog_core::unique::shown;
use sha2::{Digest, Sha256};

/// Returns the key under which a store holds a kind's key. One that would be too long for a store is replaced by its digest.
#[must_use]
pub fn stored(kind: &Kind, key: &UniqueKey) -> UniqueKey {
    UniqueKey::parse(&format!("{kind}/{key}")).unwrap_or_else(|_| {
        let digest = HEXLOWER.encode(&Sha256::digest(key.as_str()));
        UniqueKey::parse(&format!("{kind}/sha256:{digest}")).expect("a kind and a digest are short enough")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kind(text: &str) -> Kind {
        Kind::parse(text).expect("valid")
    }

    fn key(text: &str) -> UniqueKey {
        UniqueKey::parse(text).expect("valid")
    }

    #[test]
    fn a_key_is_shown_as_it_was_named_and_one_of_an_earlier_version_as_it_is() {
        let stored = stored(&kind("a.run"), &key("k/1"));
        assert_eq!((stored.as_str(), shown(&kind("a.run"), &stored)), ("a.run/k/1", "k/1"));
        assert_eq!(shown(&kind("a.run"), &key("k")), "k");
    }

    proptest! {
        #[test]
        fn keys_meet_only_if_kind_and_key_are_the_same(
            kinds in prop::array::uniform2("[a-b]{1,2}|[a-b]{126,127}"), keys in prop::array::uniform2("[a/]{1,2}|a{254,256}"),
        ) {
            let [one, two] = [0, 1].map(|n| stored(&kind(&kinds[n]), &key(&keys[n])));
            prop_assert_eq!(one == two, kinds[0] == kinds[1] && keys[0] == keys[1]);
        }
    }
}
