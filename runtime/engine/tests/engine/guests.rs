//! Guests in WebAssembly text. Each is a handler; a test says what its `handle` does.
//!
//! The result of `handle` lies at [`RESULT`]: first whether it is an error (a byte), 8 bytes on the output's address
//! and length, or which failure it is. Zeros are thus an empty output.

/// Where the result of `handle` lies.
pub(crate) const RESULT: u32 = 64;

/// Free for what a test likes to put there.
pub(crate) const SCRATCH: u32 = 1024;

/// The import of the types that `handle` takes and returns.
pub(crate) const TYPES: &str = r#"(import "sandhog:job/types@0.1.0" (instance $types
    (type $job (record (field "id" string) (field "kind" string) (field "payload" (list u8))))
    (export "job" (type (eq $job)))
    (type $transient' (record (field "message" string) (field "retry-after-ms" (option u64))))
    (export "transient-failure" (type $transient (eq $transient')))
    (type $failure (variant (case "transient" $transient) (case "permanent" string)))
    (export "failure" (type (eq $failure)))))"#;

/// A handler, in parts.
pub(crate) struct Guest {
    /// Its memory, in pages: `1`, or `1 10`.
    pub(crate) memory: &'static str,
    /// Fields of the component before the module that handles: imports, further modules.
    pub(crate) component: String,
    /// What that module is instantiated with, beside `libc`.
    pub(crate) with: String,
    /// Fields of that module before `handle`.
    pub(crate) module: String,
    /// The body of `handle`: takes id, kind and payload as address and length, leaves the address of its result.
    pub(crate) handle: String,
}

impl Default for Guest {
    fn default() -> Self {
        Self {
            memory: "1",
            component: String::new(),
            with: String::new(),
            module: String::new(),
            handle: format!("i32.const {RESULT}"),
        }
    }
}

impl Guest {
    /// A handler with this body.
    pub(crate) fn that(body: &str) -> Self {
        Self { handle: format!("{body} i32.const {RESULT}"), ..Self::default() }
    }

    /// With an import, as one of the functions below makes it.
    pub(crate) fn importing(mut self, import: &Import) -> Self {
        self.component.push_str(&import.component);
        self.with.push_str(&import.with);
        self.module.insert_str(0, &import.module);
        self
    }

    /// With further fields of its module.
    pub(crate) fn with_fields(mut self, fields: &str) -> Self {
        self.module.push_str(fields);
        self
    }

    /// The whole component.
    pub(crate) fn text(&self) -> String {
        let Self { memory, component, with, module, handle } = self;
        format!(
            r#"(component
  {TYPES}
  (alias export $types "job" (type $job))
  (alias export $types "failure" (type $failure))
  (core module $libc
    (memory (export "memory") {memory})
    (global $top (mut i32) (i32.const 8192))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $top) (i32.const 15)) (i32.const -16)))
      (global.set $top (i32.add (local.get $at) (local.get 3)))
      (block $fits
        (br_if $fits (i32.le_u (global.get $top) (i32.mul (memory.size) (i32.const 65536))))
        (br_if $fits (i32.ne (i32.const -1) (memory.grow (i32.add (i32.const 1)
          (i32.div_u (i32.sub (global.get $top) (i32.mul (memory.size) (i32.const 65536))) (i32.const 65536))))))
        unreachable)
      local.get $at))
  (core instance $libc (instantiate $libc))
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
    (canon lift (core func $main "handle") (memory (core memory $libc "memory")) (realloc (core func $libc "realloc")))))"#
        )
    }
}

/// Something of the host that a guest calls.
pub(crate) struct Import {
    component: String,
    with: String,
    module: String,
}

/// A function of an interface, called `$name` in the guest. `types` come before it in the interface, `outside` before
/// the interface.
fn import(interface: &str, outside: &str, types: &str, function: &str, name: &str, core: &str) -> Import {
    let (short, signature) = function.split_once(' ').expect("a name, then a signature");
    Import {
        component: format!(
            r#"{outside}
  (import "{interface}" (instance ${name}_i {types} (export "{short}" (func {signature}))))
  (core func ${name}_c (canon lower (func ${name}_i "{short}")
    (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
  (core instance ${name}_m (export "{name}" (func ${name}_c)))"#
        ),
        with: format!(r#" (with "{name}" (instance ${name}_m))"#),
        module: format!(r#"(import "{name}" "{name}" (func ${name} {core}))"#),
    }
}

/// `$log` takes level, message and fields: `i32 i32 i32 i32 i32`.
pub(crate) fn log() -> Import {
    let types = r#"(type $level' (enum "trace" "debug" "info" "warn" "error"))
      (export "level" (type $level (eq $level')))
      (type $fields (list (tuple string string)))"#;
    let write = r#"write (param "level" $level) (param "message" string) (param "fields" $fields)"#;
    import("sandhog:job/log@0.1.0", "", types, write, "log", "(param i32 i32 i32 i32 i32)")
}

const STATE_ERROR: &str = r#"(type $error' (variant (case "invalid-key" string) (case "limit" string)
        (case "not-a-number") (case "unavailable" string)))
      (export "state-error" (type $error (eq $error')))"#;

/// `$get` takes a key and where the answer goes: `i32 i32 i32`.
pub(crate) fn state_get() -> Import {
    let types = format!("{STATE_ERROR} (type $value (option (list u8)))");
    let get = r#"get (param "key" string) (result (result $value (error $error)))"#;
    import("sandhog:job/state@0.1.0", "", &types, get, "get", "(param i32 i32 i32)")
}

/// `$set` takes key, value, the time to live and where the answer goes: `i32 i32 i32 i32 i32 i64 i32`.
pub(crate) fn state_set() -> Import {
    let types = format!("{STATE_ERROR} (type $ttl (option u64))");
    let set = r#"set (param "key" string) (param "value" (list u8)) (param "ttl-ms" $ttl) (result (result (error $error)))"#;
    import("sandhog:job/state@0.1.0", "", &types, set, "set", "(param i32 i32 i32 i32 i32 i64 i32)")
}

/// `$enqueue` takes kind, payload, queue, delay, priority, unique key and where the answer goes:
/// `i32 i32 i32 i32 i32 i32 i32 i64 i32 i32 i32 i32 i32`.
pub(crate) fn enqueue() -> Import {
    let types = r#"(type $text (option string))
      (type $job' (record (field "kind" string) (field "payload" (list u8)) (field "queue" $text)
        (field "delay-ms" u64) (field "priority" u8) (field "unique-key" $text)))
      (export "new-job" (type $job (eq $job')))
      (type $error' (variant (case "unknown-kind" string) (case "invalid" string) (case "limit" string)))
      (export "enqueue-error" (type $error (eq $error')))"#;
    let enqueue = r#"enqueue (param "job" $job) (result (result string (error $error)))"#;
    let core = "(param i32 i32 i32 i32 i32 i32 i32 i64 i32 i32 i32 i32 i32)";
    import("sandhog:job/enqueue@0.1.0", "", types, enqueue, "enqueue", core)
}

/// `$secret` takes a name and where the answer goes: `i32 i32 i32`.
pub(crate) fn secret() -> Import {
    let types = r#"(type $error' (variant (case "not-granted" string)))
      (export "secret-error" (type $error (eq $error')))"#;
    let get = r#"get (param "name" string) (result (result string (error $error)))"#;
    import("sandhog:job/secrets@0.1.0", "", types, get, "secret", "(param i32 i32 i32)")
}

/// `$report` takes what is done, the total if any and the message if any: `i64 i32 i64 i32 i32 i32`.
pub(crate) fn progress() -> Import {
    let types = "(type $total (option u64)) (type $message (option string))";
    let report = r#"report (param "done" u64) (param "total" $total) (param "message" $message)"#;
    import("sandhog:job/progress@0.1.0", "", types, report, "report", "(param i64 i32 i64 i32 i32 i32)")
}

/// `$stop` takes where the answer goes: whether there is one, and 0 for cancelled or 1 for draining.
pub(crate) fn stop_requested() -> Import {
    let types = r#"(type $reason' (enum "cancelled" "draining"))
      (export "stop-reason" (type $reason (eq $reason')))
      (type $answer (option $reason))"#;
    import("sandhog:job/context@0.1.0", "", types, "stop-requested (result $answer)", "stop", "(param i32)")
}

/// `$now` gives nanoseconds.
pub(crate) fn clock() -> Import {
    let interface = "wasi:clocks/monotonic-clock@0.2.0";
    import(interface, "", "", "now (result u64)", "now", "(result i64)")
}

/// `$random` takes how many bytes and where the answer goes: `i64 i32`.
pub(crate) fn random() -> Import {
    let get = r#"get-random-bytes (param "len" u64) (result (list u8))"#;
    import("wasi:random/random@0.2.0", "", "", get, "random", "(param i64 i32)")
}

/// `$exit` takes whether it is an error.
pub(crate) fn exit() -> Import {
    let exit = r#"exit (param "status" $status)"#;
    import("wasi:cli/exit@0.2.6", "", "(type $status (result))", exit, "exit", "(param i32)")
}

/// `$env` takes where the answer goes.
pub(crate) fn environment() -> Import {
    let types = "(type $pairs (list (tuple string string)))";
    let get = "get-environment (result $pairs)";
    import("wasi:cli/environment@0.2.3", "", types, get, "env", "(param i32)")
}

/// `$block` waits for a pollable; `$after` makes one that is ready after nanoseconds.
pub(crate) fn sleep() -> [Import; 2] {
    let block = r#"[method]pollable.block (param "self" (borrow $pollable))"#;
    let types = r#"(export "pollable" (type $pollable (sub resource)))"#;
    let poll = import("wasi:io/poll@0.2.0", "", types, block, "block", "(param i32)");
    let outside = r#"(alias export $block_i "pollable" (type $pollable))"#;
    let types = r#"(alias outer 1 $pollable (type $p'))(export "pollable" (type $p (eq $p')))"#;
    let after = r#"subscribe-duration (param "when" u64) (result (own $p))"#;
    let clock = import(
        "wasi:clocks/monotonic-clock@0.2.0",
        outside,
        types,
        after,
        "after",
        "(param i64) (result i32)",
    );
    [poll, clock]
}

/// `$out` gives stdout; `$print` writes to it: `i32 i32 i32 i32` for stream, text and where the answer goes.
pub(crate) fn stdout() -> [Import; 2] {
    let outside = r#"(import "wasi:io/error@0.2.0" (instance $io_error (export "error" (type (sub resource)))))
  (alias export $io_error "error" (type $io_error))"#;
    let types = r#"(export "output-stream" (type $stream (sub resource)))
      (alias outer 1 $io_error (type $e'))(export "error" (type $e (eq $e')))
      (type $error' (variant (case "last-operation-failed" (own $e)) (case "closed")))
      (export "stream-error" (type $error (eq $error')))"#;
    let write = r#"[method]output-stream.blocking-write-and-flush
      (param "self" (borrow $stream)) (param "contents" (list u8)) (result (result (error $error)))"#;
    let write = write.replacen('\n', " ", 1);
    let streams = import("wasi:io/streams@0.2.0", outside, types, &write, "print", "(param i32 i32 i32 i32)");
    let outside = r#"(alias export $print_i "output-stream" (type $output_stream))"#;
    let types = r#"(alias outer 1 $output_stream (type $s'))(export "output-stream" (type $s (eq $s')))"#;
    let get = "get-stdout (result (own $s))";
    let stdout = import("wasi:cli/stdout@0.2.0", outside, types, get, "out", "(result i32)");
    [streams, stdout]
}

/// A handler that returns at once.
pub(crate) fn idle() -> String {
    Guest::default().text()
}

/// A handler that returns its payload.
pub(crate) fn echo() -> String {
    Guest::that(&format!(
        "(i32.store (i32.const {}) (local.get $payload)) (i32.store (i32.const {}) (local.get $payload_len))",
        RESULT + 8,
        RESULT + 12
    ))
    .text()
}

/// A handler that never comes to an end.
pub(crate) fn spin() -> String {
    Guest::that("(loop $for_ever br $for_ever)").text()
}
