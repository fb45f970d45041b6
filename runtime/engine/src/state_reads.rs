//! Cache of what a run has read of its plugin's state lately: a handler that reads one key over and over asks the broker some
//! times a second, and not as often as it can.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use sandhog_core::id::StateKey;

/// Maximum age of an answer that is used without asking the broker again.
const RECENT: Duration = Duration::from_millis(100);

/// Maximum number of answers that are kept, and maximum size of a value among them, in bytes.
const KEPT_MAX: usize = 32;
const VALUE_MAX: usize = 16 * 1024;

/// Answers, by key.
#[derive(Debug, Default)]
pub(crate) struct StateReads(HashMap<StateKey, Answer>);

#[derive(Debug)]
struct Answer {
    at: Instant,
    stored: Option<Vec<u8>>,
}

impl StateReads {
    /// Returns what was found under a key, if that was less than [`RECENT`] ago.
    pub(crate) fn recent(&self, key: &StateKey, now: Instant) -> Option<Option<Vec<u8>>> {
        let answer = self.0.get(key)?;
        (now.saturating_duration_since(answer.at) < RECENT).then(|| answer.stored.clone())
    }

    /// Records what was found under a key.
    pub(crate) fn note(&mut self, key: &StateKey, stored: &Option<Vec<u8>>, now: Instant) {
        if stored.as_ref().is_some_and(|value| value.len() > VALUE_MAX) {
            self.0.remove(key);
            return;
        }
        if self.0.len() >= KEPT_MAX && !self.0.contains_key(key) {
            self.0.retain(|_, answer| now.saturating_duration_since(answer.at) < RECENT);
            if self.0.len() >= KEPT_MAX {
                return;
            }
        }
        self.0.insert(key.clone(), Answer { at: now, stored: stored.clone() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: usize) -> StateKey {
        StateKey::parse(&format!("k{n}")).expect("a valid key")
    }

    #[test]
    fn an_answer_is_good_for_a_moment() {
        let (mut reads, now) = (StateReads::default(), Instant::now());
        reads.note(&key(1), &Some(b"one".to_vec()), now);
        reads.note(&key(2), &None, now);
        let later = now + RECENT - Duration::from_millis(1);
        assert_eq!(reads.recent(&key(1), later), Some(Some(b"one".to_vec())));
        assert_eq!(reads.recent(&key(2), later), Some(None));
        assert_eq!(reads.recent(&key(3), later), None);
        assert_eq!(reads.recent(&key(1), now + RECENT), None);
        // What is found later takes its place, even if it is too large to be kept.
        reads.note(&key(1), &Some(vec![0; VALUE_MAX + 1]), later);
        assert_eq!(reads.recent(&key(1), later), None);
    }

    #[test]
    fn only_so_many_are_kept() {
        let (mut reads, now) = (StateReads::default(), Instant::now());
        for n in 0..10 * KEPT_MAX {
            reads.note(&key(n), &None, now);
        }
        assert_eq!(reads.0.len(), KEPT_MAX);
        reads.note(&key(1_000_000), &None, now + RECENT);
        assert_eq!(reads.recent(&key(1_000_000), now + RECENT), Some(None));
    }
}
