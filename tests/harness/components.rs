//! Components for tests: compiled from text, or given another digest by a section without meaning.

use sandhog_guests::{ECHO, Guest};

/// Returns the body of a `handle` that returns its payload, and uses much fuel for it.
#[must_use]
pub fn burn() -> String {
    format!(
        "(local $left i32)
  (local.set $left (i32.const 100000))
  (loop $again
    (local.set $left (i32.sub (local.get $left) (i32.const 1)))
    (br_if $again (local.get $left)))
  {ECHO}"
    )
}

/// Returns a component, as WebAssembly text, whose handler has this body. The comment changes its digest.
#[must_use]
pub fn component_of(body: &str, comment: &str) -> Vec<u8> {
    format!("{}\n;; {comment}\n", Guest::that(body).text()).into_bytes()
}

/// Returns the same component with another digest: a custom section that nobody reads is added to it.
///
/// # Panics
/// If the text is longer than a section's length has room for in one byte.
#[must_use]
pub fn with_section(wasm: &[u8], text: &str) -> Vec<u8> {
    const CUSTOM: u8 = 0;
    const NAME: &[u8] = b"test";
    let length = u8::try_from(1 + NAME.len() + text.len()).ok().filter(|length| *length < 0x80);
    let mut wasm = wasm.to_vec();
    wasm.extend([CUSTOM, length.expect("a short text"), NAME.len() as u8]);
    wasm.extend(NAME);
    wasm.extend(text.as_bytes());
    wasm
}
