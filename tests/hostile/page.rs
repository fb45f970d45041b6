//! The page of the docs that lists the cases.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;

use libtest_mimic::Failed;

use crate::case::Case;
use crate::{cases, latency, repetition};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/hostile.md");

const HEAD: &str = "# Hostile guests

Every case below is a component that does its worst, run by a real daemon (`cargo test -p sandhog-tests --test hostile`).
Each asserts three things:

1. **A named end.** The job ends in the state and for the reason given here, or the component is refused when it is
   deployed. What the run did before is not there.
2. **Bounded memory.** The daemon's peak is within what it has at rest, plus `limits.memory` and what the host may hold
   for each run that there can be at once, plus 32 MiB.
3. **A neighbour served.** A job of another tenant started after a hostile one had started, and succeeded before the
   last hostile one had ended, by the broker's records.

Nor does any of them make the daemon log an error: tenants can't page the operator.

Those with a number under *again* also run so many times, and then as many times more, which must not make the daemon larger:
whatever a run left there would add up. Those with 100 do so side by side. So do the host calls of ordinary handlers, 1,000 times
each.

This page is made from the cases: `SANDHOG_WRITE_PAGES=1 cargo test -p sandhog-tests --test hostile page`.
";

/// Compares the page with the cases; with `SANDHOG_WRITE_PAGES` writes it.
pub(crate) fn check() -> Result<(), Failed> {
    let page = page();
    if std::env::var_os("SANDHOG_WRITE_PAGES").is_some() {
        fs::write(PAGE, &page)?;
    }
    let found = fs::read_to_string(PAGE)?;
    if found != page {
        let line = found.lines().zip(page.lines()).position(|(found, made)| found != made);
        return Err(format!("docs/hostile.md is not what the cases make it, from line {line:?} on").into());
    }
    Ok(())
}

/// Each case can be named.
pub(crate) fn names_are_unique() -> Result<(), Failed> {
    let cases = cases::all();
    let names: BTreeSet<_> = cases.iter().map(|case| case.name).collect();
    assert_eq!(names.len(), cases.len(), "two cases have one name");
    assert!(names.iter().all(|name| name.bytes().all(|byte| byte == b'-' || byte.is_ascii_alphanumeric())));
    Ok(())
}

fn page() -> String {
    let names = |cases: Vec<Case>| cases.into_iter().map(|case| case.name).collect::<BTreeSet<_>>();
    let (alone, together) = (names(repetition::cases()), names(repetition::together()));
    let again = |name: &str| match (alone.contains(name), together.contains(name)) {
        (true, _) => repetition::ROUND.to_string(),
        (_, true) => repetition::ROUND_TOGETHER.to_string(),
        _ => "–".to_owned(),
    };
    let mut page = HEAD.to_owned();
    let mut group = "";
    for case in cases::all() {
        if case.group != group {
            group = case.group;
            let title = group.replace('_', " ");
            let (first, rest) = title.split_at(1);
            write_line(&mut page, &format!("\n## {}{rest}\n", first.to_uppercase()));
            write_line(&mut page, "| case | the guest | the promise | its end | again |");
            write_line(&mut page, "|---|---|---|---|---|");
        }
        let Case { name, does, promise, end, .. } = &case;
        let again = again(name);
        let row = format!("| `{name}` | {does} | {} | {end} | {again} |", promise.text());
        write_line(&mut page, &row);
    }
    write_line(&mut page, LATENCY);
    for attack in latency::attacks() {
        let on: Vec<_> = latency::backends(&attack).into_iter().map(|(on, _)| on).collect();
        let row = format!("| `{}` | {} | {} |", attack.case.name, attack.case.does, on.join(", "));
        write_line(&mut page, &row);
    }
    page
}

const LATENCY: &str = "
## What a neighbour waits

Each of these goes on for ever, in four runs at once. The neighbour's jobs are measured alone and beside it, in turns: all
but the longest one in a hundred take at most twice as long beside it, and 5 ms, in the best of twenty rounds. It takes a
machine that does nothing else meanwhile, so it isn't among the tests: `make latency`.

| attack | the guest, without end | tried on |
|---|---|---|";

fn write_line(page: &mut String, line: &str) {
    // Writing to a string can't fail.
    let _ = writeln!(page, "{line}");
}
