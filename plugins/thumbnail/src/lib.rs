//! Makes thumbnails: kind `image.thumbnail`.
//!
//! A PNG or JPEG comes from a granted folder or in the payload, is shrunk to fit into a box, and goes to a granted
//! folder or back in the output:
//! ```json
//! { "path": "/pictures/cat.jpg", "width": 320, "height": 320, "output": "/thumbnails/cat.jpg" }
//! { "data": "iVBORw0KGgo…", "width": 64, "format": "png" }
//! ```
//! A picture that is missing, malformed or too large is a dead letter at once: it would be the same the next time. What
//! is too large is decided before a pixel is decoded. An output file appears whole or not at all, and a repeated attempt
//! writes the same one again.

mod files;
mod picture;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sandhog_sdk::{Context, OrFail, Progress, Result, handler, info, permanent};
use serde::{Deserialize, Serialize};

pub use picture::Format;
use picture::{Bounds, Quality};

/// What to make a thumbnail of, and how.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// A file in a granted folder; this or `data`.
    pub path: Option<String>,
    /// The picture itself in base64; this or `path`.
    pub data: Option<String>,
    /// The most pixels from left to right; this or `height`, or both.
    pub width: Option<u32>,
    /// The most pixels from top to bottom.
    pub height: Option<u32>,
    /// What to write. If not given: what the name of `output` says, or else what the source is.
    pub format: Option<Format>,
    /// Of a JPEG: 1 to 100.
    #[serde(default)]
    pub quality: Quality,
    /// A file in a folder that is granted for writing; if not given, the thumbnail is in the output.
    pub output: Option<String>,
}

/// The thumbnail that was made.
#[derive(Debug, Serialize, Deserialize, PartialEq)]
pub struct Thumbnail {
    /// Pixels from left to right.
    pub width: u32,
    /// Pixels from top to bottom.
    pub height: u32,
    /// Size in bytes.
    pub bytes: usize,
    /// How it is encoded.
    pub format: Format,
    /// What it was made of.
    pub source: Source,
    /// Where it was written to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The thumbnail itself in base64, if it was not written to a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
}

/// What a thumbnail was made of.
#[derive(Debug, Serialize, Deserialize, PartialEq)]
pub struct Source {
    /// Pixels from left to right, as it is meant to be seen.
    pub width: u32,
    /// Pixels from top to bottom.
    pub height: u32,
    /// Size in bytes.
    pub bytes: usize,
    /// How it is encoded.
    pub format: Format,
}

const STEPS: u64 = 4;

/// Makes a thumbnail.
#[handler(kind = "image.thumbnail")]
pub fn thumbnail(ctx: &Context, input: Input) -> Result<Thumbnail> {
    let step = |number: u64, doing: &str| ctx.progress(Progress::of(number, STEPS).message(doing));
    let bounds = Bounds::new(input.width, input.height)?;

    step(0, "reading");
    let encoded = read(&input)?;
    step(1, "decoding");
    let picture = picture::decode(&encoded)?;
    let source = Source {
        width: picture.width(),
        height: picture.height(),
        bytes: encoded.len(),
        format: picture.format,
    };
    // A large picture and its encoded form needn't be held at the same time.
    drop(encoded);

    step(2, "shrinking");
    let format = wanted_format(&input, source.format);
    let small = picture.shrink(bounds, format);
    let bytes = small.encode(format, input.quality)?;

    step(3, "writing");
    let mut made = Thumbnail {
        width: small.width(),
        height: small.height(),
        bytes: bytes.len(),
        format,
        source,
        path: input.output,
        data: None,
    };
    match &made.path {
        Some(path) => files::write_whole(path, &bytes, ctx.job_id())?,
        None => made.data = Some(BASE64_STANDARD.encode(&bytes)),
    }
    step(STEPS, "done");
    info!(
        ctx,
        "made a thumbnail",
        width = made.width,
        height = made.height,
        bytes = made.bytes,
        source_width = made.source.width,
        source_height = made.source.height,
        source_bytes = made.source.bytes,
    );
    Ok(made)
}

fn read(input: &Input) -> Result<Vec<u8>> {
    match (&input.path, &input.data) {
        (Some(path), None) => files::read(path),
        (None, Some(data)) => BASE64_STANDARD.decode(data).or_permanent("decode the base64 of `data`"),
        (Some(_), Some(_)) => Err(permanent("a picture comes by `path` or by `data`, not by both")),
        (None, None) => Err(permanent("no picture: name its file by `path`, or give it as base64 in `data`")),
    }
}

fn wanted_format(input: &Input, source: Format) -> Format {
    let by_name = || input.output.as_deref().and_then(Format::of_name);
    input.format.or_else(by_name).unwrap_or(source)
}

sandhog_sdk::export!(thumbnail);

#[cfg(test)]
mod tests;
