//! Files of flows, in JSON or TOML.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sandhog_api::FlowAsk;
use sandhog_core::budget::Bytes;
use sandhog_core::flow::FLOW_BYTES_MAX;
use serde_json::value::to_raw_value;

use crate::exit::Failure;

/// Maximum length of a file: that of all payloads, and room for what stands beside them.
const FILE_MAX: Bytes = Bytes::mib(FLOW_BYTES_MAX.0 / (1 << 20) + 8);

/// Reads a flow from a file, or from standard input for `-`.
///
/// # Errors
/// If the file can't be read, or isn't one of a flow.
pub(crate) fn read(file: &Path) -> Result<FlowAsk, Failure> {
    let name = file.display().to_string();
    let text = text(file).map_err(|cause| Failure::io(format!("read {name}"), &cause))?;
    let wrong = |problem: String| Failure::new(format!("{name} is no flow: {problem}"));
    if text.trim_start().starts_with('{') {
        serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))
    } else {
        toml::from_str::<FlowAsk<toml::Value>>(&text)
            .map_err(|error| wrong(error.to_string().trim_end().to_owned()))?
            .with_payloads(|payload| {
                to_raw_value(&payload).map_err(|error| wrong(format!("a payload: {error}")))
            })
    }
}

/// Reads all of a file, unless it is longer than any flow may be.
fn text(file: &Path) -> io::Result<String> {
    let from: Box<dyn Read> =
        if file == Path::new("-") { Box::new(io::stdin().lock()) } else { Box::new(File::open(file)?) };
    let mut text = String::new();
    from.take(FILE_MAX.0 + 1).read_to_string(&mut text)?;
    match Bytes::of(text.len()) > FILE_MAX {
        true => Err(io::Error::other(format!("it is longer than {FILE_MAX}"))),
        false => Ok(text),
    }
}
