//! Guests that look for a way out of the one directory that they were granted.

use crate::case::{Case, Promise};

const READ: &str = "[grants]\ndirs = [{ host = \"../granted\", guest = \"/data\", access = \"read\" }]";
const WRITE: &str = "[grants]\ndirs = [{ host = \"../granted\", guest = \"/data\", access = \"read-write\", quota = \"16MiB\" }]";

pub(crate) fn cases() -> Vec<Case> {
    let escape = |name, does, call, answer| {
        Case::handler(name, Promise::Files, does, call).toml(WRITE).returns(answer)
    };
    vec![
        escape(
            "dots",
            "opens paths that go up",
            ["rogue.open", r#"["../secret.txt", "..", "./../secret.txt", "folder/../../secret.txt"]"#],
            r#"["not-permitted","not-permitted","not-permitted","not-permitted"]"#,
        ),
        escape(
            "absolute-paths",
            "opens absolute paths",
            ["rogue.open", r#"["/etc/passwd", "/proc/self/environ", "/data/inside.txt", "//etc/passwd"]"#],
            r#"["not-permitted","not-permitted","not-permitted","not-permitted"]"#,
        ),
        escape(
            "strange-paths",
            "opens paths with a zero in them, and empty ones",
            ["rogue.open", r#"["inside.txt\u0000/../../secret.txt", "", "\u0000"]"#],
            r#"["invalid","no-entry","invalid"]"#,
        ),
        escape(
            "links-of-others",
            "opens links to the outside that it found",
            [
                "rogue.open",
                r#"["link", "absolute-link", "folder-link/secret.txt", "folder-link/granted/link"]"#,
            ],
            r#"["not-permitted","not-permitted","not-permitted","not-permitted"]"#,
        ),
        escape(
            "links-of-its-own",
            "makes links to the outside, opens them, and moves, makes and removes things there",
            ["rogue.make", "null"],
            r#"["not-permitted","not-permitted","not-permitted","not-permitted","not-permitted","not-permitted","not-permitted","not-permitted","not-permitted","not-permitted"]"#,
        ),
        escape(
            "links-in-a-race",
            "swaps a directory for a link to the outside while it opens files there, two at once",
            ["rogue.race", r#"{"rounds": 200}"#],
            "[]",
        ),
        escape(
            "files-without-end",
            "opens a file again and again, and keeps it, until it is told no",
            ["rogue.fill", "null"],
            "\"insufficient-memory\"",
        ),
        Case::handler(
            "read-only",
            Promise::Files,
            "makes and writes in a directory that it may only read",
            ["rogue.make", "null"],
        )
        .toml(READ)
        .returns(
            r#"["not-permitted","not-permitted","not-permitted","no-entry","not-permitted","not-permitted","not-permitted","not-permitted","not-permitted","not-permitted"]"#,
        ),
        escape(
            "pipe",
            "opens a pipe that nobody writes to, which would block a thread of the host",
            ["rogue.open", "[\"pipe\"]"],
            r#"["not-permitted"]"#,
        ),
    ]
}
