//! Leaving something for the next run: in statics, on the heap, in the environment, in files.

use std::cell::Cell;
use std::hint::black_box;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs};

use sandhog_sdk::{Result, handler};
use serde::Serialize;

static COUNTER: AtomicU32 = AtomicU32::new(0);
static HEAP: Mutex<Vec<String>> = Mutex::new(Vec::new());

thread_local! {
    static LOCAL: Cell<u32> = const { Cell::new(0) };
}

const VARIABLE: &str = "ROGUE";
const FILES: [&str; 3] = ["/tmp/rogue", "rogue", "/rogue"];

/// What was found of an earlier run.
#[derive(Debug, Serialize)]
pub struct Found {
    counter: u32,
    heap: usize,
    thread_local: u32,
    variable: bool,
    files: usize,
    memory: usize,
}

/// Leaves something wherever it can, and returns what it found there.
#[handler(kind = "rogue.leave")]
pub fn leave() -> Result<Found> {
    let mut heap = HEAP.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let found = Found {
        counter: COUNTER.fetch_add(1, Ordering::Relaxed),
        heap: heap.len(),
        thread_local: LOCAL.replace(1),
        variable: env::var_os(VARIABLE).is_some(),
        files: FILES.iter().filter(|path| fs::read(path).is_ok()).count(),
        memory: marked(),
    };
    heap.push("left by an earlier run".repeat(1000));
    leave_variable();
    for path in FILES {
        // Where nothing can be written, nothing is left.
        let _ = fs::write(path, "left by an earlier run");
    }
    Ok(found)
}

/// Takes a megabyte that nobody clears, as fresh memory is zero; returns how many bytes of it an earlier run has marked,
/// and marks them all.
fn marked() -> usize {
    let mut memory = vec![0_u8; 1 << 20];
    let marked = memory.iter().filter(|byte| **byte == MARK).count();
    memory.fill(MARK);
    black_box(memory);
    marked
}

const MARK: u8 = 0xa5;

#[allow(unsafe_code)]
fn leave_variable() {
    // SAFETY: there is one thread.
    unsafe { env::set_var(VARIABLE, "left by an earlier run") };
}
