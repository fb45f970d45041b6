//! Whole runs on pictures that are made here, against the fake host.

use super::*;
use image::{DynamicImage, GenericImageView, ImageFormat, Rgb, RgbImage, Rgba, RgbaImage};
use sandhog_sdk::{Failure, FakeHost};
use std::io::Cursor;
use std::path::Path;

fn encode(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).expect("memory takes it");
    bytes.into_inner()
}

/// Left half red, right half blue: a thumbnail shows whether it was turned or mixed up.
fn two_colours(width: u32, height: u32) -> DynamicImage {
    let colour = |x| if x < width / 2 { Rgb([200, 0, 0]) } else { Rgb([0, 0, 200]) };
    RgbImage::from_fn(width, height, |x, _| colour(x)).into()
}

fn inline(bytes: &[u8]) -> Input {
    Input {
        path: None,
        data: Some(BASE64_STANDARD.encode(bytes)),
        width: Some(100),
        height: Some(100),
        format: None,
        quality: Quality::default(),
        output: None,
    }
}

fn file(path: &Path) -> Input {
    let path = path.to_str().expect("test paths are text").to_owned();
    Input { path: Some(path), data: None, ..inline(&[]) }
}

fn run(input: Input) -> Result<Thumbnail> {
    FakeHost::new().run(|ctx| thumbnail(ctx, input)).result
}

fn pixels(made: &Thumbnail) -> DynamicImage {
    let data = made.data.as_ref().expect("it is inline");
    image::load_from_memory(&BASE64_STANDARD.decode(data).expect("base64")).expect("a picture")
}

fn permanent_message(result: Result<Thumbnail>) -> String {
    match result {
        Err(Failure::Permanent { message }) => message,
        other => panic!("not a permanent failure: {other:?}"),
    }
}

#[test]
fn each_format_becomes_each_format() {
    for source in [ImageFormat::Png, ImageFormat::Jpeg] {
        let bytes = encode(&two_colours(800, 400), source);
        for format in [Format::Png, Format::Jpeg] {
            let made = run(Input { format: Some(format), ..inline(&bytes) }).expect("a thumbnail");
            assert_eq!((made.width, made.height, made.format), (100, 50, format));
            assert_eq!((made.source.width, made.source.height, made.source.bytes), (800, 400, bytes.len()));
            let small = pixels(&made);
            assert_eq!(small.dimensions(), (100, 50));
            let (left, right) = (small.get_pixel(20, 25), small.get_pixel(80, 25));
            assert!(left[0] > 180 && left[2] < 30, "left is red: {left:?}");
            assert!(right[2] > 180 && right[0] < 30, "right is blue: {right:?}");
        }
    }
}

#[test]
fn a_file_becomes_a_file_and_nothing_else_is_left() {
    let folder = tempfile::tempdir().expect("a folder");
    let (source, output) = (folder.path().join("cat.png"), folder.path().join("small.jpg"));
    std::fs::write(&source, encode(&two_colours(300, 600), ImageFormat::Png)).expect("written");
    let output_name = output.to_str().expect("text").to_owned();

    let made = run(Input { output: Some(output_name.clone()), ..file(&source) }).expect("a thumbnail");
    assert_eq!((made.path.as_ref(), made.data.as_ref()), (Some(&output_name), None));
    assert_eq!((made.width, made.height, made.format), (50, 100, Format::Jpeg));
    let bytes = std::fs::read(&output).expect("it is there");
    assert_eq!(bytes.len(), made.bytes);
    assert_eq!(image::guess_format(&bytes).ok(), Some(ImageFormat::Jpeg), "the name says so");
    assert_eq!(std::fs::read_dir(folder.path()).expect("listed").count(), 2);
}

#[test]
fn a_second_attempt_writes_the_same_file_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = folder.path().join("cat.png");
    let output = folder.path().join("small.png").to_str().expect("text").to_owned();
    std::fs::write(&source, encode(&two_colours(300, 600), ImageFormat::Png)).expect("written");
    let once = || run(Input { output: Some(output.clone()), ..file(&source) }).expect("a thumbnail");
    assert_eq!(once(), once());
}

#[test]
fn what_can_be_seen_through_becomes_white_in_a_jpeg_and_stays_so_in_a_png() {
    let clear = DynamicImage::from(RgbaImage::from_pixel(400, 400, Rgba([0, 0, 0, 0])));
    let bytes = encode(&clear, ImageFormat::Png);
    let jpeg = run(Input { format: Some(Format::Jpeg), ..inline(&bytes) }).expect("a thumbnail");
    assert!(pixels(&jpeg).get_pixel(50, 50).0[..3].iter().all(|colour| *colour > 250));
    let png = run(Input { format: Some(Format::Png), ..inline(&bytes) }).expect("a thumbnail");
    assert_eq!(pixels(&png).get_pixel(50, 50)[3], 0);
}

#[test]
fn a_picture_that_a_camera_held_sideways_is_turned() {
    let jpeg = encode(&two_colours(800, 400), ImageFormat::Jpeg);
    // An Exif segment whose only entry says: turn by a quarter to the right.
    let exif: &[u8] =
        b"\xff\xe1\x00\x22Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let sideways = [&jpeg[..2], exif, &jpeg[2..]].concat();
    let made = run(inline(&sideways)).expect("a thumbnail");
    assert_eq!((made.width, made.height), (50, 100));
    let top = pixels(&made).get_pixel(25, 20);
    assert!(top[0] > 180 && top[2] < 30, "what was left is on top: {top:?}");
}

#[test]
fn sixteen_bit_and_grey_pictures_are_shrunk_too() {
    for picture in
        [two_colours(300, 300).into_rgb16().into(), DynamicImage::from(two_colours(300, 300).into_luma8())]
    {
        let picture: DynamicImage = picture;
        let made = run(inline(&encode(&picture, ImageFormat::Png))).expect("a thumbnail");
        assert_eq!(pixels(&made).dimensions(), (100, 100));
    }
}

#[test]
fn a_lower_quality_is_a_smaller_file() {
    let noise = RgbImage::from_fn(90, 90, |x, y| {
        let shade = u8::try_from((x * 37 + y * 91 + x * y * 13) % 256).expect("below 256");
        Rgb([shade, shade.wrapping_mul(3), shade.wrapping_add(99)])
    });
    let bytes = encode(&noise.into(), ImageFormat::Png);
    let size = |quality: u8| {
        let quality = Quality::try_from(quality).expect("1 to 100");
        run(Input { quality, format: Some(Format::Jpeg), ..inline(&bytes) }).expect("a thumbnail").bytes
    };
    assert!(size(20) < size(95));
}

#[test]
fn progress_ends_at_its_total_and_a_line_is_logged() {
    let bytes = encode(&two_colours(200, 200), ImageFormat::Png);
    let run = FakeHost::new().run(|ctx| thumbnail(ctx, inline(&bytes)));
    let last = run.progress.last().expect("some progress");
    assert_eq!((last.done, last.total), (STEPS, Some(STEPS)));
    assert_eq!(run.logs.len(), 1);
    assert_eq!(run.logs[0].field("source_width"), Some("200"));
}

#[test]
fn a_decompression_bomb_is_refused_before_it_is_decoded() {
    // A PNG of a few dozen bytes whose head promises 20,000 by 20,000 pixels.
    let mut bomb = encode(&two_colours(1, 1), ImageFormat::Png);
    bomb[16..24].copy_from_slice(&[20_000_u32.to_be_bytes(), 20_000_u32.to_be_bytes()].concat());
    let checksum = crc32(&bomb[12..29]);
    bomb[29..33].copy_from_slice(&checksum.to_be_bytes());
    let message = permanent_message(run(inline(&bomb)));
    assert_eq!(message, "the picture is 20000 by 20000 pixels; at most 40000000 are decoded");

    bomb[16..20].copy_from_slice(&1_000_000_u32.to_be_bytes());
    let checksum = crc32(&bomb[12..29]);
    bomb[29..33].copy_from_slice(&checksum.to_be_bytes());
    let message = permanent_message(run(inline(&bomb)));
    assert!(message.starts_with("decode the picture's head: "), "{message}");
}

/// The checksum of PNG's chunks.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { 0xEDB8_8320 ^ (crc >> 1) } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}

#[test]
fn a_malformed_picture_is_permanent() {
    let png = encode(&two_colours(200, 200), ImageFormat::Png);
    let mut damaged = png.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0xFF;
    for bytes in
        [b"no picture".as_slice(), &png[..20], &png[..png.len() / 2], &damaged, b"", b"\xff\xd8\xff\xe0"]
    {
        permanent_message(run(inline(bytes)));
    }
    assert!(permanent_message(run(inline(b"GIF89a......"))).contains("Gif"));
}

#[test]
fn a_missing_file_is_permanent_and_named() {
    let message = permanent_message(run(file(Path::new("/no/such/cat.jpg"))));
    assert!(message.starts_with("read the picture /no/such/cat.jpg: "), "{message}");
    let folder = tempfile::tempdir().expect("a folder");
    assert!(permanent_message(run(file(folder.path()))).ends_with(" is a folder, not a picture"));
}

#[test]
fn an_input_that_makes_no_sense_is_permanent_and_says_why() {
    let bytes = encode(&two_colours(2, 2), ImageFormat::Png);
    let both = Input { path: Some("/a".into()), ..inline(&bytes) };
    assert!(permanent_message(run(both)).contains("not by both"));
    let neither = Input { data: None, ..inline(&bytes) };
    assert!(permanent_message(run(neither)).contains("no picture"));
    let no_base64 = Input { data: Some("%".into()), ..inline(&bytes) };
    assert!(permanent_message(run(no_base64)).starts_with("decode the base64 of `data`: "));

    let payload = r#"{"path": "/a", "width": 1, "quality": 0}"#;
    let refused = FakeHost::new().run_payload::<thumbnail>(payload).result;
    let message = "the payload is no input of `image.thumbnail`: `quality` is 1 to 100 at line 1 column 40";
    assert_eq!(refused, Err(permanent(message)));
}
