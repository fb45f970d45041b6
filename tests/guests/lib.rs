//! Guests in WebAssembly text. Each is a handler; a test says what its `handle` does.
//!
//! The result of `handle` lies at [`RESULT`]: first whether it is an error (a byte), 8 bytes on the output's address
//! and length, or which failure it is. Zeros are thus an empty output.
//!
//! A guest is made of two core modules: `libc` has the memory and `realloc`, `main` has `handle`. What else a test
//! wants goes between the two, or before both.

mod imports;

pub use imports::*;

/// Where the result of `handle` lies.
pub const RESULT: u32 = 64;

/// Free for what a test likes to put there.
pub const SCRATCH: u32 = 1024;

/// The import of the types that `handle` takes and returns.
pub const TYPES: &str = r#"(import "sandhog:job/types@0.1.0" (instance $types
    (type $job (record (field "id" string) (field "kind" string) (field "payload" (list u8))))
    (export "job" (type (eq $job)))
    (type $transient' (record (field "message" string) (field "retry-after-ms" (option u64))))
    (export "transient-failure" (type $transient (eq $transient')))
    (type $failure (variant (case "transient" $transient) (case "permanent" string)))
    (export "failure" (type (eq $failure)))))"#;

/// The same of the contract's version 0.2.0.
pub const TYPES_0_2: &str = r#"(import "sandhog:job/types@0.2.0" (instance $types
    (type $job (record (field "id" string) (field "kind" string) (field "payload" (list u8))))
    (export "job" (type (eq $job)))
    (type $transient' (record (field "message" string) (field "code" (option string))
      (field "retry-after-ms" (option u64))))
    (export "transient-failure" (type $transient (eq $transient')))
    (type $limit' (record (field "downstream" (option string)) (field "after-ms" u64)))
    (export "rate-limit" (type $limit (eq $limit')))
    (type $outage' (record (field "downstream" string) (field "after-ms" (option u64))))
    (export "unavailable-service" (type $outage (eq $outage')))
    (type $failure (variant (case "transient" $transient) (case "permanent" string) (case "snoozed" u64)
      (case "rate-limited" $limit) (case "unavailable" $outage)))
    (export "failure" (type (eq $failure)))))"#;

/// The body of a `handle` that returns its payload.
pub const ECHO: &str = "(i32.store offset=8 (i32.const 64) (local.get $payload))
  (i32.store offset=12 (i32.const 64) (local.get $payload_len))";

/// The body of one that breaks a rule of WebAssembly.
pub const TRAP: &str = "unreachable";

/// The body of one that never ends.
pub const SPIN: &str = "(loop $for_ever br $for_ever)";

/// The body of a `realloc` that hands out ever new memory, and grows it as it must.
pub const BUMP: &str = r#"(local $at i32)
      (local.set $at (i32.and (i32.add (global.get $top) (i32.const 15)) (i32.const -16)))
      (global.set $top (i32.add (local.get $at) (local.get $len)))
      (block $fits
        (br_if $fits (i32.le_u (global.get $top) (i32.mul (memory.size) (i32.const 65536))))
        (br_if $fits (i32.ne (i32.const -1) (memory.grow (i32.add (i32.const 1)
          (i32.div_u (i32.sub (global.get $top) (i32.mul (memory.size) (i32.const 65536))) (i32.const 65536))))))
        unreachable)
      local.get $at"#;

/// The body of a `realloc` that hands out the same memory again and again: what was there is lost.
pub const REUSE: &str = "i32.const 8192";

/// A handler, in parts.
#[derive(Debug, Clone)]
pub struct Guest {
    /// The types of the contract's version that it is of: [`TYPES`], or [`TYPES_0_2`].
    pub types: &'static str,
    /// Its memory, in pages: `1`, or `1 10`.
    pub memory: &'static str,
    /// Fields of the component before everything else of it.
    pub before: String,
    /// What `libc` is instantiated with.
    pub libc_with: String,
    /// Fields of `libc`.
    pub libc: String,
    /// The body of `realloc`: takes `$old`, `$old_len`, `$align` and `$len`, leaves an address.
    pub realloc: String,
    /// Fields of the component before the module that handles: imports, further modules.
    pub component: String,
    /// What that module is instantiated with, beside `libc`.
    pub with: String,
    /// Fields of that module before `handle`.
    pub module: String,
    /// The body of `handle`: takes id, kind and payload as address and length, leaves the address of its result.
    pub handle: String,
    /// How `handle` is lifted, beside its memory and `realloc`.
    pub lift: String,
}

impl Default for Guest {
    fn default() -> Self {
        Self {
            types: TYPES,
            memory: "1",
            before: String::new(),
            libc_with: String::new(),
            libc: String::new(),
            realloc: BUMP.to_owned(),
            component: String::new(),
            with: String::new(),
            module: String::new(),
            handle: format!("i32.const {RESULT}"),
            lift: String::new(),
        }
    }
}

impl Guest {
    /// A handler with this body.
    #[must_use]
    pub fn that(body: &str) -> Self {
        Self { handle: format!("{body} i32.const {RESULT}"), ..Self::default() }
    }

    /// With an import, as one of the functions of this crate makes it.
    #[must_use]
    pub fn importing(mut self, import: &Import) -> Self {
        self.component.push_str(&import.component);
        self.with.push_str(&import.with);
        self.module.insert_str(0, &import.module);
        self
    }

    /// With further fields of its module.
    #[must_use]
    pub fn with_fields(mut self, fields: &str) -> Self {
        self.module.push_str(fields);
        self
    }

    /// With another body of `realloc`.
    #[must_use]
    pub fn with_realloc(mut self, body: &str) -> Self {
        body.clone_into(&mut self.realloc);
        self
    }

    /// With this body of a function that is called when the result has been taken over.
    #[must_use]
    pub fn with_post_return(mut self, body: &str) -> Self {
        self.module.push_str(&format!(r#"(func (export "post") (param i32) {body})"#));
        self.lift.push_str(r#" (post-return (core func $main "post"))"#);
        self
    }

    /// The whole component.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { types, memory, before, libc_with, libc, realloc, component, with, module, handle, lift } =
            self;
        format!(
            r#"(component
  {types}
  (alias export $types "job" (type $job))
  (alias export $types "failure" (type $failure))
  {before}
  (core module $libc
    {libc}
    (memory (export "memory") {memory})
    (global $top (mut i32) (i32.const 8192))
    (func (export "realloc") (param $old i32) (param $old_len i32) (param $align i32) (param $len i32) (result i32)
      {realloc}))
  (core instance $libc (instantiate $libc {libc_with}))
  {component}
  (core module $main
    (import "libc" "memory" (memory 0))
    {module}
    (func $handle (export "handle")
      (param $id i32) (param $id_len i32) (param $kind i32) (param $kind_len i32)
      (param $payload i32) (param $payload_len i32) (result i32)
      {handle}))
  (core instance $main (instantiate $main (with "libc" (instance $libc)) {with}))
  (func (export "handle") (param "job" $job) (result (result (list u8) (error $failure)))
    (canon lift (core func $main "handle") (memory (core memory $libc "memory"))
      (realloc (core func $libc "realloc")) {lift})))"#
        )
    }
}

/// A handler that returns at once.
#[must_use]
pub fn idle() -> String {
    Guest::default().text()
}

/// A handler that returns its payload.
#[must_use]
pub fn echo() -> String {
    Guest::that(ECHO).text()
}

/// A handler that never comes to an end.
#[must_use]
pub fn spin() -> String {
    Guest::that(SPIN).text()
}
