//! Guests that look for what tells them where they are, and for what they could find again.

use crate::case::{Case, Promise};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::handler(
            "look-around",
            Promise::Machine,
            "looks for arguments, variables, directories and where it is",
            ["rogue.look", "null"],
        )
        .returns(r#"{"arguments":[],"variables":[],"directories":[],"working_directory":null}"#),
        Case::handler(
            "sockets",
            Promise::Machine,
            "connects, listens, sends datagrams and looks up names",
            ["rogue.connect", "null"],
        )
        .returns("[]"),
        Case::handler(
            "chance",
            Promise::Fresh,
            "compares its random numbers with those of an earlier run",
            ["rogue.dice", "null"],
        )
        .returns("true"),
        Case::handler(
            "clock-probe",
            Promise::Machine,
            "looks at its clocks as often as it can, for steps finer than `limits.clock_resolution`",
            ["rogue.tick", r#"{"resolution": 1000000}"#],
        )
        .limits("clock_resolution = \"1ms\"")
        .fuel(10_000_000_000)
        .returns("[]"),
        Case::handler(
            "leftovers",
            Promise::Fresh,
            "leaves something in statics, heap, environment and files, and looks for it",
            ["rogue.leave", "null"],
        )
        .returns(r#"{"counter":0,"heap":0,"thread_local":0,"variable":false,"files":0,"memory":0}"#),
    ]
}
