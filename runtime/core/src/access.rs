//! Access over the network: roles, and tokens as they are kept.

use std::collections::BTreeSet;
use std::fmt;

use crate::id::{InvalidName, TenantId};
use crate::rate::Rate;
use crate::time::Timestamp;

/// Role of a caller. Each role may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// May look at everything but payloads and outputs.
    Observe,
    /// May enqueue jobs.
    Produce,
    /// May look at payloads and outputs, and act on jobs.
    Operate,
    /// May change what a job or a schedule is to do.
    Edit,
    /// May change which revisions are in force.
    Deploy,
    /// May change what concerns all tenants, such as the daemon's configuration.
    Admin,
}

impl Role {
    /// All roles, each after those that it includes.
    pub const ALL: [Self; 6] =
        [Self::Observe, Self::Produce, Self::Operate, Self::Edit, Self::Deploy, Self::Admin];

    /// Returns the name of the role.
    #[must_use]
    pub fn slug(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Produce => "produce",
            Self::Operate => "operate",
            Self::Edit => "edit",
            Self::Deploy => "deploy",
            Self::Admin => "admin",
        }
    }

    /// Returns the role of this name. `None` if there is no such role.
    #[must_use]
    pub fn from_slug(slug: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.slug() == slug)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.slug())
    }
}

/// Tenants whose jobs and plugins a caller gets to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All tenants.
    All,
    /// These tenants. For the caller, those of others don't exist.
    Tenants(BTreeSet<TenantId>),
}

/// SHA-256 of a token, by which it is recognised. The token itself is kept by its owner alone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// Creates the hash of a token with this SHA-256.
    #[must_use]
    pub const fn from_sha256(digest: [u8; 32]) -> Self {
        Self(digest)
    }

    /// Returns the SHA-256.
    #[must_use]
    pub const fn as_sha256(&self) -> &[u8; 32] {
        &self.0
    }

    /// Parses 64 hexadecimal digits.
    ///
    /// # Errors
    /// The text is anything else. The error doesn't show it, as it may be the token itself.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let invalid = || InvalidName {
            what: "token hash",
            value: "…".to_owned(),
            rule: "64 hexadecimal digits, as `sandhog token new` prints them",
        };
        let mut digest = [0; 32];
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(invalid());
        }
        for (byte, place) in digest.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(&text[place..place + 2], 16).map_err(|_| invalid())?;
        }
        Ok(Self(digest))
    }
}

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A token as the configuration has it: how it is recognised, and what whoever shows it may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Name, for the log.
    pub name: String,
    /// Hash by which it is recognised.
    pub hash: TokenHash,
    /// Role of its owner.
    pub role: Role,
    /// Tenants that its owner gets to see.
    pub scope: Scope,
    /// Time from which on it is good for nothing. `None` if it has no end.
    pub expires: Option<Timestamp>,
    /// Limit on its requests. `None` for the limit of all tokens.
    pub rate: Option<Rate>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_is_found_by_its_name() {
        for role in Role::ALL {
            assert_eq!(Role::from_slug(role.slug()), Some(role));
        }
        assert_eq!(Role::from_slug("root"), None);
        assert!(Role::ALL.is_sorted());
    }

    #[test]
    fn a_hash_is_read_as_it_is_shown_and_a_wrong_one_is_not_shown() {
        let hash = TokenHash::from_sha256(std::array::from_fn(|n| n as u8 * 7));
        assert_eq!(TokenHash::parse(&hash.to_string()), Ok(hash));
        assert_eq!(TokenHash::parse(&hash.to_string().to_uppercase()), Ok(hash));
        for wrong in ["", "shg_secret", &"é".repeat(32), &"+1".repeat(32)] {
            let error = TokenHash::parse(wrong).expect_err("it is no hash");
            assert!(wrong.is_empty() || !error.to_string().contains(wrong), "{error}");
        }
    }
}
