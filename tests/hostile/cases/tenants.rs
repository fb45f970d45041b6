//! Guests that reach for what is another tenant's.

use crate::case::{Case, Promise};

pub(crate) fn cases() -> Vec<Case> {
    let apart = |name, does, call, answer| Case::handler(name, Promise::Apart, does, call).returns(answer);
    vec![
        apart(
            "secret-of-another",
            "asks for a secret by the name that a neighbour has it under",
            ["rogue.secret", "\"TOKEN\""],
            r#""secret `TOKEN` is not granted; add `secrets = [\"TOKEN\"]` under [grants] of plugin hostile/hog""#,
        ),
        apart(
            "state-of-another",
            "reads and writes the key of a neighbour whose plugin has the same name",
            ["rogue.state", r#"{"key": "k", "value": "mine"}"#],
            "null",
        ),
        apart(
            "queue-of-another",
            "enqueues a job of a kind and into a queue that a neighbour has",
            ["rogue.spawn", r#"{"queue": "hogs", "kind": "hog.count"}"#],
            "\"taken\"",
        ),
        apart(
            "kind-of-another",
            "enqueues a job of a kind that only a neighbour handles",
            ["rogue.spawn", r#"{"kind": "hog.count"}"#],
            "\"enqueue a job: no plugin of this tenant handles kind `hog.count`, and no queue was named\"",
        ),
    ]
}
