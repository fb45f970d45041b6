//! History of a plugin: what was deployed, what is in force, and what the operator took back. Pure, and kept as JSON.

use sandhog_core::id::Revision;
use sandhog_core::time::Timestamp;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Revision as it is written: 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Digest(pub(crate) Revision);

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Revision::parse(&text).map(Self).map_err(D::Error::custom)
    }
}

/// History of one plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    serving: Digest,
    since_ms: u64,
    /// Revisions that can be gone back to, the latest deployed first; the one in force is among them.
    kept: Vec<Digest>,
    held: Option<TakenBack>,
}

/// Component that the operator, or a canary, has taken back: as long as it stays what it was, it isn't deployed again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct TakenBack {
    file: Option<Digest>,
    pin: Option<Digest>,
}

/// Origin of a plugin's code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The component that the plugin's TOML names.
    File,
    /// The revision in force, though the component is another: that was taken back.
    Kept(Revision),
}

/// Code that a plugin's TOML asks for: the digest of the component, if it can be read, and the pin, if there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) file: Option<Revision>,
    pub(crate) pin: Option<Revision>,
}

impl From<Wanted> for TakenBack {
    fn from(wanted: Wanted) -> Self {
        Self { file: wanted.file.map(Digest), pin: wanted.pin.map(Digest) }
    }
}

/// Reason why there is no revision to go back to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotKept {
    #[error("no earlier revision of it is kept")]
    NoEarlier,
    #[error("{wanted} is in force already")]
    InForce { wanted: String },
    #[error("no revision {wanted} of it is kept; `sandhog plugins` lists those that are")]
    Unknown { wanted: String },
    #[error("{wanted} may be one of several kept revisions; give more digits")]
    Ambiguous { wanted: String },
}

impl Record {
    /// Creates the history of a plugin that is deployed for the first time.
    pub(crate) fn first(revision: Revision, now: Timestamp) -> Self {
        let digest = Digest(revision);
        Self { serving: digest, since_ms: now.as_millis(), kept: vec![digest], held: None }
    }

    /// Revision in force.
    pub(crate) fn serving(&self) -> Revision {
        self.serving.0
    }

    /// Time since which that revision is in force.
    pub(crate) fn since(&self) -> Timestamp {
        Timestamp::from_millis(self.since_ms)
    }

    /// Revisions that can be gone back to, the latest deployed first.
    pub(crate) fn kept(&self) -> impl Iterator<Item = Revision> {
        self.kept.iter().map(|digest| digest.0)
    }

    /// Whether the plugin's component was taken back.
    pub(crate) fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// Decides where the plugin's code is to come from.
    pub(crate) fn origin(&self, wanted: Wanted) -> Origin {
        if self.held == Some(wanted.into()) { Origin::Kept(self.serving()) } else { Origin::File }
    }

    /// Adds a revision that is to be kept, whether it is in force yet or not. Beyond `most` kept revisions the oldest go first,
    /// but never the one in force.
    pub(crate) fn keep(&mut self, revision: Revision, most: usize) {
        self.kept.retain(|kept| kept.0 != revision);
        self.kept.insert(0, Digest(revision));
        self.trim(most);
    }

    /// Records that a component is in force, and ends any hold.
    pub(crate) fn deployed(&mut self, revision: Revision, now: Timestamp, most: usize) {
        self.held = None;
        self.serve(revision, now);
        self.keep(revision, most);
    }

    /// Records that a kept revision is in force again; the component is held back as long as it is what it is now.
    pub(crate) fn went_back(&mut self, revision: Revision, instead_of: Wanted, now: Timestamp) {
        self.held = Some(instead_of.into());
        self.serve(revision, now);
    }

    fn serve(&mut self, revision: Revision, now: Timestamp) {
        if self.serving.0 != revision {
            self.serving = Digest(revision);
            self.since_ms = now.as_millis();
        }
    }

    /// Removes the oldest kept revisions beyond `most`, but never the one in force.
    pub(crate) fn trim(&mut self, most: usize) {
        while self.kept.len() > most.max(1) {
            let Some(last) = self.kept.iter().skip(1).rposition(|kept| *kept != self.serving) else { return };
            self.kept.remove(last + 1);
        }
    }

    /// Finds the kept revision that `wanted` names, by its first digits or all; without it, the one before the one in force.
    pub(crate) fn find(&self, wanted: Option<&str>) -> Result<Revision, NotKept> {
        let Some(wanted) = wanted else {
            let earlier = self.kept().skip_while(|kept| *kept != self.serving()).nth(1);
            return earlier.ok_or(NotKept::NoEarlier);
        };
        let prefix = wanted.to_ascii_lowercase();
        let mut found = self.kept().filter(|kept| kept.to_string().starts_with(&prefix));
        let wanted = wanted.to_owned();
        match (found.next(), found.next()) {
            _ if prefix.is_empty() => Err(NotKept::Unknown { wanted }),
            (None, _) => Err(NotKept::Unknown { wanted }),
            (Some(_), Some(_)) => Err(NotKept::Ambiguous { wanted }),
            (Some(only), None) if only == self.serving() => Err(NotKept::InForce { wanted }),
            (Some(only), None) => Ok(only),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn revision(n: u8) -> Revision {
        Revision::from_sha256([n; 32])
    }

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    fn kept(record: &Record) -> Vec<u8> {
        record.kept().map(|revision| revision.as_sha256()[0]).collect()
    }

    fn after(deploys: &[u8], most: usize) -> Record {
        let mut record = Record::first(revision(deploys[0]), at(0));
        for (n, deployed) in (1..).zip(&deploys[1..]) {
            record.deployed(revision(*deployed), at(n), most);
        }
        record
    }

    #[test]
    fn the_latest_are_kept_and_going_back_goes_further_each_time() {
        let mut record = after(&[1, 2, 3, 4], 3);
        assert_eq!(kept(&record), [4, 3, 2]);
        let wanted = Wanted { file: Some(revision(4)), pin: None };
        for (earlier, ms) in [(3, 10), (2, 11)] {
            assert_eq!(record.find(None), Ok(revision(earlier)));
            record.went_back(revision(earlier), wanted, at(ms));
            assert_eq!((record.serving(), record.since()), (revision(earlier), at(ms)));
        }
        assert_eq!(record.find(None), Err(NotKept::NoEarlier));
        record.trim(1);
        assert_eq!(kept(&record), [4, 2], "what is in force stays");
    }

    #[test]
    fn what_was_taken_back_stays_so_until_the_component_or_its_pin_changes() {
        let mut record = after(&[1, 2], 5);
        let wanted = Wanted { file: Some(revision(2)), pin: None };
        assert_eq!(record.origin(wanted), Origin::File);
        record.went_back(revision(1), wanted, at(9));
        assert!(record.is_held());
        assert_eq!(record.origin(wanted), Origin::Kept(revision(1)));
        assert_eq!(record.origin(Wanted { file: Some(revision(3)), pin: None }), Origin::File);
        assert_eq!(record.origin(Wanted { pin: Some(revision(2)), ..wanted }), Origin::File);
        record.deployed(revision(3), at(10), 5);
        assert!(!record.is_held() && record.origin(wanted) == Origin::File);
    }

    #[test]
    fn a_kept_revision_is_found_by_its_first_digits() {
        let record = after(&[0xab, 0xac, 0x11], 5);
        assert_eq!(record.find(Some("AB")), Ok(revision(0xab)));
        assert!(matches!(record.find(Some("a")), Err(NotKept::Ambiguous { .. })));
        assert!(matches!(record.find(Some("11")), Err(NotKept::InForce { .. })));
        assert!(matches!(record.find(Some("77")), Err(NotKept::Unknown { .. })));
        assert!(matches!(record.find(Some("")), Err(NotKept::Unknown { .. })));
    }

    #[test]
    fn a_history_survives_its_text() {
        let mut record = after(&[1, 2], 5);
        record.went_back(revision(1), Wanted { file: None, pin: Some(revision(2)) }, at(9));
        let text = serde_json::to_string(&record).expect("it can be written");
        assert_eq!(serde_json::from_str::<Record>(&text).expect("it can be read"), record);
    }

    proptest! {
        #[test]
        fn what_is_in_force_is_always_kept(
            steps in prop::collection::vec((0..3u8, 0..9u8), 1..40), most in 1..5usize
        ) {
            let mut record = Record::first(revision(0), at(0));
            for (step, n) in steps {
                match step {
                    0 => record.deployed(revision(n), at(1), most),
                    1 => record.keep(revision(n), most),
                    _ => {
                        let nth = usize::from(n) % record.kept.len();
                        let to = record.kept[nth].0;
                        record.went_back(to, Wanted { file: None, pin: None }, at(1));
                    }
                }
                prop_assert!(record.kept().any(|kept| kept == record.serving()));
                // One on trial beside the one in force.
                prop_assert!(record.kept.len() <= most.max(2));
                let mut unique = record.kept().collect::<Vec<_>>();
                unique.sort();
                unique.dedup();
                prop_assert_eq!(unique.len(), record.kept.len());
            }
        }
    }
}
