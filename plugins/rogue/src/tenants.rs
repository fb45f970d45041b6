//! What belongs to other tenants.

use sandhog_sdk::{Bytes, Context, NewJob, Result, handler};
use serde::Deserialize;

/// What to read and then write.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// The key.
    pub key: String,
    /// What to write.
    pub value: String,
}

/// What to enqueue.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spawn {
    /// Where.
    pub queue: Option<String>,
    /// What.
    pub kind: String,
}

/// Asks for a secret, and returns its value or the refusal.
#[handler(kind = "rogue.secret")]
pub fn secret(ctx: &Context, name: String) -> Result<String> {
    Ok(match ctx.secret(&name) {
        Ok(secret) => secret.expose().to_owned(),
        Err(error) => error.to_string(),
    })
}

/// Writes a key, and returns what was there that it hadn't written itself.
#[handler(kind = "rogue.state")]
pub fn state(ctx: &Context, input: State) -> Result<Option<String>> {
    let found: Option<String> = ctx.state().get(&input.key)?;
    ctx.state().set(&input.key, &input.value)?;
    Ok(found.filter(|found| *found != input.value))
}

/// Enqueues a job, and returns whether that was taken, or the refusal.
#[handler(kind = "rogue.spawn")]
pub fn spawn(ctx: &Context, input: Spawn) -> Result<String> {
    let mut job = NewJob::new(&input.kind, &Bytes(b"null".to_vec()));
    if let Some(queue) = &input.queue {
        job = job.queue(queue);
    }
    Ok(ctx.enqueue(job).map_or_else(|error| error.to_string(), |_| "taken".to_owned()))
}
