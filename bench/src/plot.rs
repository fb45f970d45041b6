//! Plot for the README: `bench/results.svg`, jobs per second by concurrency.

use plotters::backend::SVGBackend;
use plotters::element::{Circle, PathElement, Rectangle, Text};
use plotters::prelude::{IntoDrawingArea, IntoFont};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontStyle, RGBColor, ShapeStyle, TextStyle, WHITE};

use crate::figures::{self, Figures};
use crate::machine::Machine;

/// Subjects, each with its name for people and its colour: Sandhog's stands out.
const SUBJECTS: [(&str, &str, RGBColor); 6] = [
    ("sandhog", "Sandhog, a sandbox each", RGBColor(200, 60, 30)),
    ("bullmq-rust", "BullMQ (Rust crate)", RGBColor(38, 70, 140)),
    ("bullmq", "BullMQ (Node.js)", RGBColor(70, 130, 200)),
    ("apalis", "apalis", RGBColor(20, 125, 105)),
    ("arq", "arq", RGBColor(130, 90, 160)),
    ("taskiq", "taskiq", RGBColor(150, 120, 40)),
];
const AT_ONCE: [usize; 4] = [1, 10, 100, 300];

const SIZE: (i32, i32) = (880, 480);
/// Corners of the area that the axes enclose, in pixels.
const LEFT_TOP: (i32, i32) = (76, 84);
const RIGHT_BOTTOM: (i32, i32) = (640, 396);
const INK: RGBColor = RGBColor(40, 40, 44);
const FAINT: RGBColor = RGBColor(110, 110, 118);
const GRID: RGBColor = RGBColor(226, 226, 230);
/// Minimum distance between the names of two lines, in pixels.
const LINE: i32 = 19;

/// Line of a subject: its points, in pixels, with its name and colour.
struct Line {
    name: &'static str,
    color: RGBColor,
    stands_out: bool,
    points: Vec<(i32, i32)>,
}

/// Draws the figures of the case `throughput`, if there are any.
///
/// # Errors
/// If the file can't be written.
pub(crate) fn write(figures: &Figures, machine: &Machine) -> anyhow::Result<()> {
    let values = |subject: &str| -> Vec<f64> {
        let value = |n: &usize| figures.value(&format!("throughput/c{n}"), subject, "jobs_per_s");
        AT_ONCE.iter().filter_map(value).collect()
    };
    let measured: Vec<_> = SUBJECTS.iter().map(|subject| (subject, values(subject.0))).collect();
    let all = || measured.iter().flat_map(|(_, values)| values).copied();
    let (Some(least), Some(most)) = (all().reduce(f64::min), all().reduce(f64::max)) else { return Ok(()) };
    let decades = least.log10().floor() as i32..=most.log10().ceil() as i32;
    let (low, high) = (f64::from(*decades.start()), f64::from(*decades.end()));
    let y = |value: f64| {
        let height = f64::from(RIGHT_BOTTOM.1 - LEFT_TOP.1);
        RIGHT_BOTTOM.1 - ((value.log10() - low) / (high - low) * height).round() as i32
    };
    let lines = measured.into_iter().filter(|(_, values)| values.len() == AT_ONCE.len()).map(
        |(&(subject, name, color), values)| Line {
            name,
            color,
            stands_out: subject == "sandhog",
            points: values.into_iter().enumerate().map(|(n, value)| (x(n), y(value))).collect(),
        },
    );
    draw(decades.map(|decade| 10f64.powi(decade)).map(|value| (value, y(value))), lines.collect(), machine)
}

/// Returns the horizontal position of a concurrency's column, in pixels.
fn x(column: usize) -> i32 {
    let (width, columns) = (RIGHT_BOTTOM.0 - LEFT_TOP.0, AT_ONCE.len() as i32);
    LEFT_TOP.0 + width * (2 * column as i32 + 1) / (2 * columns)
}

fn draw(
    grid: impl Iterator<Item = (f64, i32)>,
    mut lines: Vec<Line>,
    machine: &Machine,
) -> anyhow::Result<()> {
    let path = figures::folder().join("results.svg");
    let area = SVGBackend::new(&path, (SIZE.0 as u32, SIZE.1 as u32)).into_drawing_area();
    // A background of its own makes the plot readable on light and dark pages.
    area.fill(&WHITE)?;
    let text = |text: String, at: (i32, i32), size: i32, color: RGBColor, style: FontStyle, h_pos: HPos| {
        let font = ("Helvetica, Arial, sans-serif", size).into_font().style(style);
        area.draw(&Text::new(
            text,
            at,
            TextStyle::from(font).color(&color).pos(Pos::new(h_pos, VPos::Center)),
        ))
    };
    let plain = FontStyle::Normal;
    text(
        "Jobs a second, by how many run at once".to_owned(),
        (24, 34),
        25,
        INK,
        FontStyle::Bold,
        HPos::Left,
    )?;
    let what = "a handler that returns what it got; the jobs wait already; log scale, more is better";
    text(what.to_owned(), (24, 60), 16, FAINT, plain, HPos::Left)?;

    for (value, y) in grid {
        area.draw(&PathElement::new([(LEFT_TOP.0, y), (RIGHT_BOTTOM.0, y)], GRID))?;
        text(figures::grouped(value), (LEFT_TOP.0 - 10, y), 15, FAINT, plain, HPos::Right)?;
    }
    for (column, at_once) in AT_ONCE.iter().enumerate() {
        text(at_once.to_string(), (x(column), RIGHT_BOTTOM.1 + 18), 15, FAINT, plain, HPos::Center)?;
    }

    // The line that stands out is drawn last, over the others; names are written from the top down.
    lines.sort_by_key(|line| line.stands_out);
    for line in &lines {
        let width = if line.stands_out { 4 } else { 2 };
        let style = ShapeStyle { color: line.color.to_rgba(), filled: false, stroke_width: width };
        area.draw(&PathElement::new(line.points.clone(), style))?;
        for point in &line.points {
            area.draw(&Circle::new(*point, width as i32 + 1, line.color.filled()))?;
        }
    }
    let end = |line: &Line| *line.points.last().expect("it has a point for each concurrency");
    lines.sort_by_key(|line| end(line).1);
    let mut above = i32::MIN;
    for line in &lines {
        let (right, y) = end(line);
        above = y.max(above.saturating_add(LINE));
        let style = if line.stands_out { FontStyle::Bold } else { plain };
        area.draw(&PathElement::new([(right + 8, y), (right + 24, above)], line.color.mix(0.5)))?;
        text(line.name.to_owned(), (right + 30, above), 16, line.color, style, HPos::Left)?;
    }

    let version = |name: &str| machine.versions.get(name).map_or("", String::as_str);
    let captions = [
        format!(
            "{}, {} processors, Linux {}; Redis {}, append-only file, fsync every second",
            machine.processor,
            machine.processors,
            machine.kernel,
            version("redis")
        ),
        format!(
            "Sandhog {}, BullMQ {} on Node.js {}, bullmq-official {}, apalis-redis {}, arq {}, taskiq {} on Python {}",
            version("sandhog"),
            version("bullmq"),
            version("node"),
            version("bullmq-rust"),
            version("apalis"),
            version("arq"),
            version("taskiq"),
            version("python")
        ),
    ];
    for (caption, y) in captions.into_iter().zip([442, 460]) {
        text(caption, (24, y), 13, FAINT, plain, HPos::Left)?;
    }
    let frame = [(0, 0), (SIZE.0 - 1, SIZE.1 - 1)];
    area.draw(&Rectangle::new(frame, GRID))?;
    area.present()?;
    Ok(())
}
