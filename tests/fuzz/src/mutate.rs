//! Making inputs of inputs.

use rand::RngExt;
use rand::rngs::StdRng;

/// No input gets longer.
const LEN_MAX: usize = 64 * 1024;

/// A seed that was changed in one to eight places.
pub(crate) fn mutation(seeds: &[Vec<u8>], words: &[&str], random: &mut StdRng) -> Vec<u8> {
    let mut input = pick(seeds, random).cloned().unwrap_or_default();
    for _ in 0..random.random_range(1..=8) {
        change(&mut input, seeds, words, random);
        input.truncate(LEN_MAX);
    }
    input
}

fn pick<'a, T>(among: &'a [T], random: &mut StdRng) -> Option<&'a T> {
    (!among.is_empty()).then(|| &among[random.random_range(0..among.len())])
}

fn change(input: &mut Vec<u8>, seeds: &[Vec<u8>], words: &[&str], random: &mut StdRng) {
    let at = random.random_range(0..=input.len());
    let end = random.random_range(at..=input.len().min(at + 64));
    match random.random_range(0..8) {
        0 if at < input.len() => input[at] ^= 1 << random.random_range(0..8),
        1 if at < input.len() => input[at] = *pick(&[0, 1, 0x7f, 0x80, 0xff], random).unwrap_or(&0),
        2 => drop(input.drain(at..end)),
        3 => input.insert(at, random.random()),
        4 => {
            let again = input[at..end].to_vec();
            insert(input, at, &again);
        }
        5 => {
            let other = pick(seeds, random).map(Vec::as_slice).unwrap_or_default();
            let from = random.random_range(0..=other.len());
            let to = random.random_range(from..=other.len());
            insert(input, at, &other[from..to]);
        }
        6 => {
            let word = pick(words, random).copied().unwrap_or_default();
            insert(input, at, word.as_bytes());
        }
        _ => {
            let word = pick(words, random).copied().unwrap_or_default();
            input.splice(at..end, word.bytes());
        }
    }
}

fn insert(input: &mut Vec<u8>, at: usize, what: &[u8]) {
    input.splice(at..at, what.iter().copied());
}
