//! Ordinary handlers, written with the SDK, whose authors meant no harm or did.

use sandhog_core::reason::Reason;

use crate::case::{Case, Promise};

pub(crate) fn cases() -> Vec<Case> {
    let hog =
        |name, promise, does, call, reason, says| Case::handler(name, promise, does, call).dies(reason, says);
    vec![
        hog(
            "spins",
            Promise::Fuel,
            "computes for ever",
            ["hog.spin", "{}"],
            Reason::OutOfFuel,
            "raise limits.fuel of plugin hostile/hog",
        ),
        hog(
            "allocates",
            Promise::Memory,
            "takes memory and touches it",
            ["hog.allocate", "{}"],
            Reason::OutOfMemory,
            "raise limits.memory of plugin hostile/hog",
        ),
        hog(
            "recurses",
            Promise::Stack,
            "calls itself",
            ["hog.recurse", "{}"],
            Reason::StackOverflow,
            "engine.stack",
        ),
        hog("panics", Promise::Contained, "panics", ["hog.panic", "{}"], Reason::Trapped, "unreachable"),
        hog(
            "returns-too-much",
            Promise::Output,
            "returns four megabytes",
            ["hog.output", r#"{"bytes": 4000000}"#],
            Reason::TooMuchOutput,
            "raise limits.output of plugin hostile/hog",
        ),
        hog(
            "logs",
            Promise::Log,
            "logs for ever",
            ["hog.log", "{}"],
            Reason::TooMuchLog,
            "raise limits.log of plugin hostile/hog",
        ),
        hog(
            "sleeps",
            Promise::Time,
            "sleeps for an hour",
            ["hog.sleep", r#"{"ms": 3600000}"#],
            Reason::TimedOut,
            "raise limits.timeout of plugin hostile/hog",
        )
        .limits("timeout = \"300ms\""),
    ]
}
