//! Components for tests: made of text, or made different by a section that means nothing.

/// A handler, in WebAssembly text, that returns its payload.
pub const ECHO: &str = "(i32.store offset=8 (i32.const 64) (local.get $payload))
  (i32.store offset=12 (i32.const 64) (local.get $length))";

/// One that breaks a rule of WebAssembly.
pub const TRAP: &str = "unreachable";

/// One that returns its payload, and takes much fuel for it.
pub const BURN: &str = "(local $left i32)
  (local.set $left (i32.const 100000))
  (loop $again
    (local.set $left (i32.sub (local.get $left) (i32.const 1)))
    (br_if $again (local.get $left)))
  (i32.store offset=8 (i32.const 64) (local.get $payload))
  (i32.store offset=12 (i32.const 64) (local.get $length))";

/// A component, in WebAssembly text, whose handler does this. Its result lies at 64. The comment makes its digest.
#[must_use]
pub fn component_of(body: &str, comment: &str) -> Vec<u8> {
    let text = format!(
        r#"(component
  (import "sandhog:job/types@0.1.0" (instance $types
    (type $job (record (field "id" string) (field "kind" string) (field "payload" (list u8))))
    (export "job" (type (eq $job)))
    (type $transient' (record (field "message" string) (field "retry-after-ms" (option u64))))
    (export "transient-failure" (type $transient (eq $transient')))
    (type $failure (variant (case "transient" $transient) (case "permanent" string)))
    (export "failure" (type (eq $failure)))))
  (alias export $types "job" (type $job))
  (alias export $types "failure" (type $failure))
  (core module $main
    (memory (export "memory") 16)
    (global $top (mut i32) (i32.const 8192))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $top) (i32.const 15)) (i32.const -16)))
      (global.set $top (i32.add (local.get $at) (local.get 3)))
      local.get $at)
    (func (export "handle")
      (param $id i32) (param $id_length i32) (param $kind i32) (param $kind_length i32)
      (param $payload i32) (param $length i32) (result i32)
      {body}
      i32.const 64))
  (core instance $main (instantiate $main))
  (func (export "handle") (param "job" $job) (result (result (list u8) (error $failure)))
    (canon lift (core func $main "handle") (memory (core memory $main "memory")) (realloc (core func $main "realloc")))))
;; {comment}
"#
    );
    text.into_bytes()
}

/// The same component with another digest: a custom section that nobody reads is added to it.
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
