//! Measuring in turns, so that disturbances of the machine affect all the subjects that are compared.

/// Measures the first round of each subject, then the second, and so on; each round begins with another subject. Returns
/// the results of the rounds by subject.
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
