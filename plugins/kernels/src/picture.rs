//! Shrinking pictures, with the filter that thumbnails are made with.

use image::RgbImage;
use image::imageops::{FilterType, replace, resize};

const WIDTH: u32 = 1280;
const HEIGHT: u32 = 960;

/// By how much each side is shrunk.
const FACTOR: u32 = 4;

/// How far apart the small ones are laid; no side is a multiple of it.
const STEP: u32 = 77;

/// Shrinks a picture so many times; after each time the small one is laid into it, each time elsewhere. Returns its pixels.
#[must_use]
pub(crate) fn shrink(rounds: u32) -> Vec<u8> {
    let mut picture = landscape();
    for round in 0..rounds {
        let small = resize(&picture, WIDTH / FACTOR, HEIGHT / FACTOR, FilterType::Lanczos3);
        let (x, y) = (round * STEP % WIDTH, round * STEP % HEIGHT);
        replace(&mut picture, &small, x.into(), y.into());
    }
    picture.into_raw()
}

/// Slopes of colour with some grain, as a photograph has.
fn landscape() -> RgbImage {
    let grain = crate::noise((WIDTH * HEIGHT) as usize);
    RgbImage::from_fn(WIDTH, HEIGHT, |x, y| {
        let grain = grain[(y * WIDTH + x) as usize] >> 4;
        let slope = |along: u32, of: u32| (along * 239 / of) as u8 + grain;
        image::Rgb([slope(x, WIDTH), slope(y, HEIGHT), slope(x + y, WIDTH + HEIGHT)])
    })
}
