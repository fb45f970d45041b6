//! Decoding, shrinking and encoding, in memory.

use std::io::Cursor;

use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::{CompressionType, FilterType as PngFilter, PngEncoder};
use image::imageops::FilterType;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, Rgba, RgbaImage};
use sandhog_sdk::{OrFail, Result, permanent};
use serde::{Deserialize, Serialize};

/// How a picture is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// With loss; for photographs.
    #[serde(alias = "jpg")]
    Jpeg,
    /// Without loss, and with transparency.
    Png,
}

/// The quality of a JPEG: 1 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u8")]
pub struct Quality(u8);

/// The box that a thumbnail has to fit into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    width: u32,
    height: u32,
}

/// A decoded picture, the right way up.
#[derive(Debug)]
pub(crate) struct Picture {
    pixels: DynamicImage,
    pub(crate) format: Format,
}

/// A thumbnail, in the colours that its format has.
#[derive(Debug)]
pub(crate) struct Small(DynamicImage);

const SIDE_MAX: u32 = 20_000;
/// As many as a good camera has. Decoded, they take 120 MB; a progressive JPEG takes three times as much meanwhile.
const PIXELS_MAX: u64 = 40_000_000;
const DECODER_ALLOCATES_MAX: u64 = 512 << 20;
/// A thumbnail larger than this is none, and would be dear to encode.
const THUMBNAIL_SIDE_MAX: u32 = 4096;
/// Above this ratio, a quick average of pixels comes before the slow filter, which then makes up for its roughness.
const QUICK_ABOVE: u32 = 3;
const BEHIND_TRANSPARENCY: u32 = 255;

impl Format {
    /// The format that a file's name promises.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        ImageFormat::from_path(name).ok().and_then(Self::of_image_format)
    }

    fn of_image_format(format: ImageFormat) -> Option<Self> {
        match format {
            ImageFormat::Jpeg => Some(Self::Jpeg),
            ImageFormat::Png => Some(Self::Png),
            _ => None,
        }
    }
}

impl Default for Quality {
    fn default() -> Self {
        Self(85)
    }
}

impl TryFrom<u8> for Quality {
    type Error = &'static str;
    fn try_from(quality: u8) -> std::result::Result<Self, &'static str> {
        if (1..=100).contains(&quality) { Ok(Self(quality)) } else { Err("`quality` is 1 to 100") }
    }
}

impl Bounds {
    /// Checks what a job asks for; a side that isn't given doesn't bind.
    pub(crate) fn new(width: Option<u32>, height: Option<u32>) -> Result<Self> {
        if width.is_none() && height.is_none() {
            return Err(permanent("how large? give the most by `width`, `height` or both"));
        }
        let sides = [("width", width), ("height", height)];
        for (name, side) in sides.into_iter().filter_map(|(name, side)| Some((name, side?))) {
            if !(1..=THUMBNAIL_SIDE_MAX).contains(&side) {
                let rule = format_args!("`{name}` is 1 to {THUMBNAIL_SIDE_MAX} pixels, not {side}");
                return Err(permanent(rule));
            }
        }
        let side = |side: Option<u32>| side.unwrap_or(THUMBNAIL_SIDE_MAX);
        Ok(Self { width: side(width), height: side(height) })
    }

    /// The largest size in these bounds with the proportions of a picture, and no larger than it.
    fn fit(self, width: u32, height: u32) -> (u32, u32) {
        if width <= self.width && height <= self.height {
            return (width, height);
        }
        let scaled = |side: u32, to: u32, from: u32| {
            // Rounded to the nearest, in integers; a very thin picture keeps a pixel.
            let side = (u64::from(side) * u64::from(to) + u64::from(from) / 2) / u64::from(from);
            u32::try_from(side).unwrap_or(u32::MAX).max(1)
        };
        let by_width = (self.width, scaled(height, self.width, width));
        let by_height = (scaled(width, self.height, height), self.height);
        if by_width.1 <= self.height { by_width } else { by_height }
    }
}

/// Decodes a picture and turns it the right way up.
///
/// # Errors
/// Permanent, if it is malformed, of another format or too large.
pub(crate) fn decode(encoded: &[u8]) -> Result<Picture> {
    let found = image::guess_format(encoded).or_permanent("the picture is neither PNG nor JPEG")?;
    let format = Format::of_image_format(found)
        .or_permanent(format_args!("the picture is {found:?}; only PNG and JPEG are decoded"))?;

    let mut reader = ImageReader::with_format(Cursor::new(encoded), found);
    reader.limits(limits());
    let mut decoder = reader.into_decoder().or_permanent("decode the picture's head")?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > PIXELS_MAX {
        let rule =
            format_args!("the picture is {width} by {height} pixels; at most {PIXELS_MAX} are decoded");
        return Err(permanent(rule));
    }
    let orientation = decoder.orientation().or_permanent("decode the picture's orientation")?;
    let mut pixels = DynamicImage::from_decoder(decoder).or_permanent("decode the picture")?;
    pixels.apply_orientation(orientation);
    Ok(Picture { pixels, format })
}

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.max_image_width = Some(SIDE_MAX);
    limits.max_image_height = Some(SIDE_MAX);
    limits.max_alloc = Some(DECODER_ALLOCATES_MAX);
    limits
}

impl Picture {
    pub(crate) fn width(&self) -> u32 {
        self.pixels.width()
    }

    pub(crate) fn height(&self) -> u32 {
        self.pixels.height()
    }

    /// Shrinks it to fit, in colours that the format has. A picture that fits already keeps its size.
    pub(crate) fn shrink(self, bounds: Bounds, format: Format) -> Small {
        let (width, height) = bounds.fit(self.width(), self.height());
        let quick = (width * QUICK_ABOVE, height * QUICK_ABOVE);
        let rough = if self.width() > quick.0 && self.height() > quick.1 {
            self.pixels.thumbnail_exact(quick.0, quick.1)
        } else {
            self.pixels
        };
        // Transparency goes before the filter, which would mix in the colours of pixels that can't be seen.
        let coloured = match format {
            Format::Jpeg if rough.color().has_alpha() => over_white(&rough.into_rgba8()),
            Format::Jpeg => DynamicImage::ImageRgb8(rough.into_rgb8()),
            Format::Png if rough.color().has_alpha() => DynamicImage::ImageRgba8(rough.into_rgba8()),
            Format::Png => DynamicImage::ImageRgb8(rough.into_rgb8()),
        };
        if (coloured.width(), coloured.height()) == (width, height) {
            return Small(coloured);
        }
        Small(coloured.resize_exact(width, height, FilterType::Lanczos3))
    }
}

/// JPEG has no transparency: what is behind it is white.
fn over_white(picture: &RgbaImage) -> DynamicImage {
    let blend = |colour: u8, alpha: u8| {
        let (colour, alpha) = (u32::from(colour), u32::from(alpha));
        let mixed = (colour * alpha + BEHIND_TRANSPARENCY * (255 - alpha) + 127) / 255;
        u8::try_from(mixed).unwrap_or(u8::MAX)
    };
    let rgb = image::RgbImage::from_fn(picture.width(), picture.height(), |x, y| {
        let Rgba([red, green, blue, alpha]) = *picture.get_pixel(x, y);
        image::Rgb([blend(red, alpha), blend(green, alpha), blend(blue, alpha)])
    });
    DynamicImage::ImageRgb8(rgb)
}

impl Small {
    pub(crate) fn width(&self) -> u32 {
        self.0.width()
    }

    pub(crate) fn height(&self) -> u32 {
        self.0.height()
    }

    pub(crate) fn encode(&self, format: Format, Quality(quality): Quality) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let written = match format {
            Format::Jpeg => self.0.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, quality)),
            Format::Png => self.0.write_with_encoder(PngEncoder::new_with_quality(
                &mut bytes,
                CompressionType::Default,
                PngFilter::Adaptive,
            )),
        };
        written.or_permanent("encode the thumbnail")?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(bounds: (Option<u32>, Option<u32>), size: (u32, u32)) -> (u32, u32) {
        Bounds::new(bounds.0, bounds.1).expect("good bounds").fit(size.0, size.1)
    }

    #[test]
    fn a_thumbnail_keeps_the_proportions_and_fits() {
        assert_eq!(fit((Some(100), Some(100)), (400, 200)), (100, 50));
        assert_eq!(fit((Some(100), Some(100)), (200, 400)), (50, 100));
        assert_eq!(fit((Some(100), None), (400, 200)), (100, 50));
        assert_eq!(fit((None, Some(100)), (400, 200)), (200, 100));
        assert_eq!(fit((Some(100), Some(10)), (400, 200)), (20, 10));
        assert_eq!(fit((Some(3), Some(3)), (4, 3)), (3, 2));
    }

    #[test]
    fn a_thumbnail_is_never_larger_than_its_source_nor_empty() {
        assert_eq!(fit((Some(100), Some(100)), (40, 20)), (40, 20));
        assert_eq!(fit((Some(10), None), (20_000, 1)), (10, 1));
    }

    #[test]
    fn bounds_that_are_no_size_are_refused() {
        let refused = |width, height| Bounds::new(width, height).is_err_and(|failure| failure.is_permanent());
        assert!(refused(None, None));
        assert!(refused(Some(0), Some(10)));
        assert!(refused(Some(10), Some(THUMBNAIL_SIDE_MAX + 1)));
    }

    #[test]
    fn a_file_name_tells_its_format() {
        assert_eq!(Format::of_name("/out/cat.JPG"), Some(Format::Jpeg));
        assert_eq!(Format::of_name("cat.png"), Some(Format::Png));
        assert_eq!(Format::of_name("cat.webp"), None);
        assert_eq!(Format::of_name("cat"), None);
    }
}
