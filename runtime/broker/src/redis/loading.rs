//! Loading of the library of functions, and removal of those of earlier versions.
//!
//! A server keeps all libraries that it was ever given, so each client that loads one removes old ones. It leaves the
//! [`KEPT`] that were loaded last. A daemon whose library is gone loads it again at its next call, which makes it one of the
//! latest; so only libraries that nobody uses are removed, as long as no more than [`KEPT`] versions are at work on one
//! server.

use redis::{Cmd, Value};

use super::library::{LIBRARIES, LOADED_AT, Scripts};
use super::link::{Failure, Link};

/// Number of libraries that a server keeps, the loaded one among them.
const KEPT: usize = 4;

/// A library of the broker that a server has.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    name: String,
    /// Time at which it was loaded, in milliseconds since 1970.
    loaded_at: u64,
}

/// Loads the library, unless the server has it.
pub(super) async fn load(server: &Link, scripts: &Scripts) -> Result<(), Failure> {
    let known = match server.send(function("LIST").arg("LIBRARYNAME").arg(format!("{LIBRARIES}*"))).await {
        Ok(reply) => libraries(&reply),
        // A user who may not list libraries may not remove any either.
        Err(failure) if failure.is_denied() => Vec::new(),
        Err(failure) => return Err(failure),
    };
    if known.iter().any(|library| library.name == scripts.name) {
        return Ok(());
    }
    let now = time(&server.send(&redis::cmd("TIME")).await?);
    match server.send(function("LOAD").arg(scripts.text(now))).await {
        Ok(_) => {}
        Err(failure) if failure.is_known_library() => {}
        Err(failure) => return Err(failure),
    }
    tracing::info!(library = scripts.name, ?server, "loaded this version's functions");
    for old in too_old(known) {
        // Another client that has loaded one meanwhile may have removed it first.
        match server.send(function("DELETE").arg(&old.name)).await {
            Ok(_) => tracing::info!(library = old.name, ?server, "removed an old version's functions"),
            Err(failure) => tracing::debug!(library = old.name, ?failure, "old functions stay"),
        }
    }
    Ok(())
}

fn function(word: &str) -> Cmd {
    let mut command = redis::cmd("FUNCTION");
    command.arg(word);
    command
}

/// Returns the libraries that are too many beside a new one.
fn too_old(mut known: Vec<Known>) -> Vec<Known> {
    known.sort_by(|a, b| (b.loaded_at, &b.name).cmp(&(a.loaded_at, &a.name)));
    known.split_off(known.len().min(KEPT - 1))
}

/// Reads the broker's libraries from the answer to FUNCTION LIST. One without a time of loading is taken for the oldest.
fn libraries(reply: &Value) -> Vec<Known> {
    let Value::Array(libraries) = reply else { return Vec::new() };
    let known = |library: &Value| {
        let name = text(field(library, "library_name")?)?;
        let loaded_at = match field(library, "functions")? {
            Value::Array(functions) => functions.iter().find_map(loaded_at),
            _ => None,
        };
        Some(Known { name, loaded_at: loaded_at.unwrap_or_default() })
    };
    libraries.iter().filter_map(known).collect()
}

fn loaded_at(function: &Value) -> Option<u64> {
    text(field(function, "description")?)?.strip_prefix(LOADED_AT)?.parse().ok()
}

fn field<'v>(map: &'v Value, name: &str) -> Option<&'v Value> {
    let (_, value) = map.as_map_iter()?.find(|(key, _)| text(key).as_deref() == Some(name))?;
    Some(value)
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        Value::SimpleString(text) => Some(text.clone()),
        _ => None,
    }
}

/// Reads milliseconds since 1970 from the answer to TIME; 0 if it can't be read, which makes the library the first to be
/// removed.
fn time(reply: &Value) -> u64 {
    let Value::Array(parts) = reply else { return 0 };
    let number = |nth: usize| parts.get(nth).and_then(text).and_then(|text| text.parse::<u64>().ok());
    match (number(0), number(1)) {
        (Some(seconds), Some(micros)) => seconds * 1000 + micros / 1000,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(name: &str, loaded_at: u64) -> Known {
        Known { name: name.to_owned(), loaded_at }
    }

    #[test]
    fn the_libraries_that_were_loaded_last_stay() {
        assert_eq!(too_old(vec![known("a", 1), known("b", 2), known("c", 3)]), []);
        let five = vec![known("e", 0), known("a", 4), known("d", 1), known("c", 2), known("b", 3)];
        assert_eq!(too_old(five), [known("d", 1), known("e", 0)]);
    }
}
