//! What of the host a guest can call, each under a name of its own.

/// Something of the host that a guest calls.
#[derive(Debug, Clone)]
pub struct Import {
    pub(super) component: String,
    pub(super) with: String,
    pub(super) module: String,
}

impl Import {
    /// Lowered with a further option, such as `string-encoding=utf16`.
    #[must_use]
    pub fn lowered_with(mut self, option: &str) -> Self {
        self.component = self.component.replacen(
            r#"(realloc (core func $libc "realloc"))"#,
            &format!(r#"(realloc (core func $libc "realloc")) {option}"#),
            1,
        );
        self
    }
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
#[must_use]
pub fn log() -> Import {
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
#[must_use]
pub fn state_get() -> Import {
    state_get_as("sandhog:job/state@0.1.0")
}

/// [`state_get`], from the interface under another version: a guest can import each name only once.
#[must_use]
pub fn state_get_as(interface: &str) -> Import {
    let types = format!("{STATE_ERROR} (type $value (option (list u8)))");
    let get = r#"get (param "key" string) (result (result $value (error $error)))"#;
    import(interface, "", &types, get, "get", "(param i32 i32 i32)")
}

/// `$set` takes key, value, the time to live and where the answer goes: `i32 i32 i32 i32 i32 i64 i32`.
#[must_use]
pub fn state_set() -> Import {
    let types = format!("{STATE_ERROR} (type $ttl (option u64))");
    let set = r#"set (param "key" string) (param "value" (list u8)) (param "ttl-ms" $ttl) (result (result (error $error)))"#;
    import("sandhog:job/state@0.1.0", "", &types, set, "set", "(param i32 i32 i32 i32 i32 i64 i32)")
}

/// `$secret` takes a name and where the answer goes: `i32 i32 i32`.
#[must_use]
pub fn secret() -> Import {
    let types = r#"(type $error' (variant (case "not-granted" string)))
      (export "secret-error" (type $error (eq $error')))"#;
    let get = r#"get (param "name" string) (result (result string (error $error)))"#;
    import("sandhog:job/secrets@0.1.0", "", types, get, "secret", "(param i32 i32 i32)")
}

/// `$report` takes what is done, the total if any and the message if any: `i64 i32 i64 i32 i32 i32`.
#[must_use]
pub fn progress() -> Import {
    let types = "(type $total (option u64)) (type $message (option string))";
    let report = r#"report (param "done" u64) (param "total" $total) (param "message" $message)"#;
    import("sandhog:job/progress@0.1.0", "", types, report, "report", "(param i64 i32 i64 i32 i32 i32)")
}

/// `$stop` takes where the answer goes: whether there is one, and 0 for cancelled or 1 for draining.
#[must_use]
pub fn stop_requested() -> Import {
    let types = r#"(type $reason' (enum "cancelled" "draining"))
      (export "stop-reason" (type $reason (eq $reason')))
      (type $answer (option $reason))"#;
    import("sandhog:job/context@0.1.0", "", types, "stop-requested (result $answer)", "stop", "(param i32)")
}

/// `$now` gives nanoseconds.
#[must_use]
pub fn clock() -> Import {
    clock_as("wasi:clocks/monotonic-clock@0.2.0")
}

/// [`clock`], from the interface under another version: a guest can import each name only once.
#[must_use]
pub fn clock_as(interface: &str) -> Import {
    import(interface, "", "", "now (result u64)", "now", "(result i64)")
}

/// `$random` takes how many bytes and where the answer goes: `i64 i32`.
#[must_use]
pub fn random() -> Import {
    let get = r#"get-random-bytes (param "len" u64) (result (list u8))"#;
    import("wasi:random/random@0.2.0", "", "", get, "random", "(param i64 i32)")
}

/// `$exit` takes whether it is an error.
#[must_use]
pub fn exit() -> Import {
    let exit = r#"exit (param "status" $status)"#;
    import("wasi:cli/exit@0.2.6", "", "(type $status (result))", exit, "exit", "(param i32)")
}

/// `$enqueue` takes kind, payload, queue, delay in milliseconds, priority, unique key, and where the answer goes:
/// `i32 i32  i32 i32  i32 i32 i32  i64  i32  i32 i32 i32  i32`.
#[must_use]
pub fn enqueue() -> Import {
    let types = r#"(type $job' (record (field "kind" string) (field "payload" (list u8)) (field "queue" (option string))
        (field "delay-ms" u64) (field "priority" u8) (field "unique-key" (option string))))
      (export "new-job" (type $job (eq $job')))
      (type $error' (variant (case "unknown-kind" string) (case "invalid" string) (case "limit" string)))
      (export "enqueue-error" (type $error (eq $error')))"#;
    let enqueue = r#"enqueue (param "job" $job) (result (result string (error $error)))"#;
    let core = "(param i32 i32 i32 i32 i32 i32 i32 i64 i32 i32 i32 i32 i32)";
    import("sandhog:job/enqueue@0.1.0", "", types, enqueue, "enqueue", core)
}

/// `$env` takes where the answer goes.
#[must_use]
pub fn environment() -> Import {
    let types = "(type $pairs (list (tuple string string)))";
    let get = "get-environment (result $pairs)";
    import("wasi:cli/environment@0.2.3", "", types, get, "env", "(param i32)")
}

/// `$block` waits for a pollable; `$after` makes one that is ready after nanoseconds.
#[must_use]
pub fn sleep() -> [Import; 2] {
    let block = r#"[method]pollable.block (param "self" (borrow $pollable))"#;
    let types = r#"(export "pollable" (type $pollable (sub resource)))"#;
    let poll = import("wasi:io/poll@0.2.0", "", types, block, "block", "(param i32)");
    [poll, after("block")]
}

/// `$after`, which makes pollables of the type that the import `of` has.
fn after(of: &str) -> Import {
    let outside = format!(r#"(alias export ${of}_i "pollable" (type $pollable))"#);
    let types = r#"(alias outer 1 $pollable (type $p'))(export "pollable" (type $p (eq $p')))"#;
    let after = r#"subscribe-duration (param "when" u64) (result (own $p))"#;
    import("wasi:clocks/monotonic-clock@0.2.0", &outside, types, after, "after", "(param i64) (result i32)")
}

/// `$out` gives stdout; `$print` writes to it: `i32 i32 i32 i32` for stream, text and where the answer goes.
#[must_use]
pub fn stdout() -> [Import; 2] {
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

/// `$err` gives stderr, for `$print` of [`stdout`].
#[must_use]
pub fn stderr() -> Import {
    let outside = r#"(alias export $print_i "output-stream" (type $err_stream))"#;
    let types = r#"(alias outer 1 $err_stream (type $s'))(export "output-stream" (type $s (eq $s')))"#;
    import("wasi:cli/stderr@0.2.0", outside, types, "get-stderr (result (own $s))", "err", "(result i32)")
}

/// `$poll` takes a list of pollables and where the list of those that are ready goes: `i32 i32 i32`; `$after` makes one
/// that is ready after nanoseconds.
#[must_use]
pub fn poll() -> [Import; 2] {
    let types = r#"(export "pollable" (type $pollable (sub resource)))"#;
    let poll = r#"poll (param "in" (list (borrow $pollable))) (result (list u32))"#;
    let poll = import("wasi:io/poll@0.2.0", "", types, poll, "poll", "(param i32 i32 i32)");
    [poll, after("poll")]
}

/// `$drop` gives a pollable back; for guests that have [`sleep`] or [`poll`].
#[must_use]
pub fn drop_pollable() -> Import {
    Import {
        component: r#"(core func $drop_c (canon resource.drop $pollable))
  (core instance $drop_m (export "drop" (func $drop_c)))"#
            .to_owned(),
        with: r#" (with "drop" (instance $drop_m))"#.to_owned(),
        module: r#"(import "drop" "drop" (func $drop (param i32)))"#.to_owned(),
    }
}
