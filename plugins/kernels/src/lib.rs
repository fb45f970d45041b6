//! Real work for the processor, and nothing else: what `make bench CASE=compute` runs as a job, in bare wasmtime, and
//! natively (`examples/native.rs`).
//!
//! | kind | what a round does |
//! |---|---|
//! | `kernels.resize` | shrinks a picture of 1280 by 960 pixels to a quarter of its sides |
//! | `kernels.json` | parses a document of 200 orders, changes each of them, and prints it |
//! | `kernels.sha256` | takes the SHA-256 of a mebibyte |
//!
//! The input is `{"rounds": 20}`, the output a digest of what the last round made. Each round works on what the one before
//! it has left, so none can be skipped, and equal digests mean equal work.

mod orders;
mod picture;

use sandhog_sdk::{Result, handler, permanent};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use orders::transform;
use picture::shrink;

/// How much to do.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Work {
    /// Rounds.
    pub rounds: u32,
}

const MEBIBYTE: usize = 1 << 20;

/// Shrinks pictures.
#[handler(kind = "kernels.resize")]
pub fn resize(work: Work) -> Result<String> {
    Ok(hex(&shrink(work.rounds)))
}

/// Transforms JSON.
#[handler(kind = "kernels.json")]
pub fn json(work: Work) -> Result<String> {
    let document = transform(work.rounds).map_err(permanent)?;
    Ok(hex(document.as_bytes()))
}

/// Takes digests.
#[handler(kind = "kernels.sha256")]
pub fn sha256(work: Work) -> Result<String> {
    let mut block = noise(MEBIBYTE);
    for _ in 0..work.rounds {
        let digest = Sha256::digest(&block);
        block[..digest.len()].copy_from_slice(&digest);
    }
    Ok(hex(&block))
}

/// The digest of what was made, in hexadecimal digits.
fn hex(made: &[u8]) -> String {
    Sha256::digest(made).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// So many bytes that look like nothing, the same ones each time.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        // Xorshift.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..bytes.div_ceil(size_of::<u64>())).flat_map(|_| next()).take(bytes).collect()
}

sandhog_sdk::export!(json, resize, sha256);

#[cfg(test)]
mod tests {
    use super::*;
    use sandhog_sdk::FakeHost;

    #[test]
    fn every_round_counts_and_the_same_work_has_the_same_digest() {
        for kernel in [resize, json, sha256] {
            let digests: Vec<String> =
                [1, 2, 2].map(|rounds| kernel(Work { rounds }).expect("it can't fail")).to_vec();
            assert_ne!(digests[0], digests[1]);
            assert_eq!(digests[1], digests[2]);
        }
    }

    #[test]
    fn the_digest_is_that_of_the_standard() {
        let run = FakeHost::new().run_payload::<sha256>(r#"{"rounds": 0}"#);
        let output = run.result.expect("it can't fail");
        assert_eq!(output.len(), 2 + 64, "a JSON text of 32 bytes in hexadecimal digits");
        assert_eq!(hex(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
