//! Things that are compared are measured in turns, so that whatever the machine does meanwhile happens to all of them.

/// What each of the subjects measured in each round, by subject: the first round of each, then the second, and so on.
/// Each round begins with another subject.
pub(crate) fn in_turns<S, M>(rounds: usize, subjects: &[S], mut measure: impl FnMut(&S) -> M) -> Vec<Vec<M>> {
    let mut measured: Vec<Vec<M>> = subjects.iter().map(|_| Vec::new()).collect();
    for round in 0..rounds {
        for turn in 0..subjects.len() {
            let which = (round + turn) % subjects.len();
            measured[which].push(measure(&subjects[which]));
        }
    }
    measured
}
