//! The cases, by what the guest goes after.

mod boundary;
mod components;
mod exhaustion;
mod floods;
mod handlers;
mod loops;
mod paths;
mod probing;
mod tenants;
mod traps;

use sandhog_guests::{BUMP, Guest};

use crate::case::Case;

/// All of them, in the order of the page.
pub(crate) fn all() -> Vec<Case> {
    let groups: [(&'static str, Vec<Case>); 10] = [
        ("endless_loops", loops::cases()),
        ("exhaustion", exhaustion::cases()),
        ("floods", floods::cases()),
        ("the_boundary", boundary::cases()),
        ("traps", traps::cases()),
        ("paths", paths::cases()),
        ("probing", probing::cases()),
        ("components", components::cases()),
        ("other_tenants", tenants::cases()),
        ("handlers_in_rust", handlers::cases()),
    ];
    let named =
        |(group, cases): (&'static str, Vec<Case>)| cases.into_iter().map(move |case| Case { group, ..case });
    groups.into_iter().flat_map(named).collect()
}

/// A guest whose `realloc` does something else once its `$armed` is not 0.
fn armed(guest: Guest, then: &str) -> Guest {
    let declared = "(local $at i32)";
    let bump = BUMP.strip_prefix(declared).expect("its only local");
    let realloc = format!("{declared} (if (global.get $armed) (then {then})) {bump}");
    let mut guest = guest.with_realloc(&realloc);
    guest.libc.push_str(r#"(global $armed (export "armed") (mut i32) (i32.const 0))"#);
    guest.module.insert_str(0, r#"(import "libc" "armed" (global $armed (mut i32)))"#);
    guest
}

/// Arms the `realloc` of [`armed`].
const ARM: &str = "(global.set $armed (i32.const 1))";

/// Does this again and again.
pub(crate) fn endlessly(body: &str) -> String {
    format!("(loop $for_ever {body} br $for_ever)")
}
