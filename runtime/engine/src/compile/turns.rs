//! Turns to compile. Compiling takes all cores and much memory as it is, so few components are compiled at once: and one of a
//! tenant, so that nobody's components keep those of others waiting for as long as each of them may take.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use sandhog_core::id::{Revision, TenantId};

/// Maximum number of components that are compiled at once.
const AT_ONCE: usize = 4;

/// Turns of the components that are to be compiled.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    taken: Mutex<Vec<Taken>>,
    given_back: Condvar,
}

/// Component that is being compiled, and its tenant. `None` if it is nobody's, as one that is only inspected.
type Taken = (Option<TenantId>, Revision);

impl Turns {
    /// Waits for a turn: until fewer than [`AT_ONCE`] are taken, and none of the same tenant or for the same component.
    pub(crate) fn take(&self, tenant: Option<&TenantId>, revision: Revision) -> Turn<'_> {
        let must_wait = |taken: &mut Vec<Taken>| {
            let is_in_the_way = |(other, theirs): &Taken| other.as_ref() == tenant || *theirs == revision;
            taken.len() >= AT_ONCE || taken.iter().any(is_in_the_way)
        };
        let taken = self.given_back.wait_while(self.lock(), must_wait);
        let mut taken = taken.unwrap_or_else(PoisonError::into_inner);
        let turn = (tenant.cloned(), revision);
        taken.push(turn.clone());
        Turn { turns: self, turn }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Taken>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Turn to compile a component, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Turn<'t> {
    turns: &'t Turns,
    turn: Taken,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turns.lock().retain(|taken| *taken != self.turn);
        self.turns.given_back.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;

    use super::*;

    fn tenant(name: &str) -> TenantId {
        TenantId::parse(name).expect("valid")
    }

    fn revision(n: u8) -> Revision {
        Revision::from_sha256([n; 32])
    }

    #[test]
    fn one_tenant_keeps_none_of_the_others_waiting() {
        let turns = Turns::default();
        let acme = turns.take(Some(&tenant("acme")), revision(1));
        // Each of these would wait for ever if it were in the way of the other.
        let globex = turns.take(Some(&tenant("globex")), revision(2));
        let nobody = turns.take(None, revision(3));
        assert_eq!(turns.lock().len(), 3);
        drop((acme, globex, nobody));
        assert!(turns.lock().is_empty());
    }

    #[test]
    fn those_that_have_to_wait_come_when_a_turn_is_given_back() {
        for (held, waits, n) in [
            (&[("acme", 1)][..], "acme", 2),
            (&[("acme", 1)], "globex", 1),
            (&[("a", 1), ("b", 2), ("c", 3), ("d", 4)], "e", 5),
        ] {
            let turns = Turns::default();
            let mut held: Vec<Turn<'_>> =
                held.iter().map(|(name, n)| turns.take(Some(&tenant(name)), revision(*n))).collect();
            let (tell, told) = channel();
            thread::scope(|threads| {
                threads.spawn(|| {
                    let turn = turns.take(Some(&tenant(waits)), revision(n));
                    tell.send(turns.lock().len()).expect("somebody listens");
                    drop(turn);
                });
                let before = held.len();
                drop(held.pop());
                assert_eq!(told.recv().expect("it is told"), before, "{waits} came in its place");
            });
        }
    }
}
