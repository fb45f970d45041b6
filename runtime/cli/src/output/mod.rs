//! Rendering of results: tables and text for people, documents for programs.
//!
//! Nothing in here has side effects: results go in, text comes out.

pub mod act;
pub mod breaker;
pub mod check;
pub mod console;
pub mod deploys;
pub mod events;
pub mod flow;
pub mod groups;
pub mod hold;
pub mod inspection;
pub mod job;
pub mod limits;
pub mod queues;
pub mod run;
pub(crate) mod schedule;
pub mod status;
pub mod tenant;
mod units;
pub mod usage;

use comfy_table::{Attribute, Cell, CellAlignment, ContentArrangement, Table, presets};
use sandhog_core::job::State;
use sandhog_core::text;
use serde_json::value::RawValue;

pub use units::{bytes, clock, count, duration, rfc3339, rough};

/// Whether text is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// Text has the colours of a terminal.
    Colored,
    /// Text has no colours.
    Plain,
}

impl Paint {
    fn wrap(self, code: &str, text: &str) -> String {
        match self {
            Self::Colored => format!("\x1b[{code}m{text}\x1b[0m"),
            Self::Plain => text.to_owned(),
        }
    }

    /// Emphasises text that matters.
    #[must_use]
    pub fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    /// Dims text of minor importance.
    #[must_use]
    pub fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    /// Marks success.
    #[must_use]
    pub fn green(self, text: &str) -> String {
        self.wrap(Color::Green.ansi(), text)
    }

    /// Marks failure.
    #[must_use]
    pub fn red(self, text: &str) -> String {
        self.wrap(Color::Red.ansi(), text)
    }

    /// Marks a warning.
    #[must_use]
    pub fn yellow(self, text: &str) -> String {
        self.wrap(Color::Yellow.ansi(), text)
    }

    /// Renders a job's state, in the colour of the state.
    #[must_use]
    pub fn state(self, state: State) -> String {
        self.wrap(job::color(state).ansi(), state.slug())
    }
}

/// Colours of text on a terminal.
#[derive(Debug, Clone, Copy)]
enum Color {
    Red,
    Green,
    Yellow,
    Blue,
    Cyan,
}

impl Color {
    /// Returns its number in ANSI escape sequences.
    fn ansi(self) -> &'static str {
        match self {
            Self::Red => "31",
            Self::Green => "32",
            Self::Yellow => "33",
            Self::Blue => "34",
            Self::Cyan => "36",
        }
    }

    /// Returns the same colour for a table cell.
    fn of_cell(self) -> comfy_table::Color {
        match self {
            Self::Red => comfy_table::Color::DarkRed,
            Self::Green => comfy_table::Color::DarkGreen,
            Self::Yellow => comfy_table::Color::DarkYellow,
            Self::Blue => comfy_table::Color::DarkBlue,
            Self::Cyan => comfy_table::Color::DarkCyan,
        }
    }
}

/// A column of a table.
#[derive(Clone, Copy)]
pub(crate) enum Column {
    Left(&'static str),
    Right(&'static str),
    /// A column as [`Self::Right`]. The last of these are left out if lines are too short for all.
    Spare(&'static str),
    /// The last column, as [`Self::Left`], cut to the width that the others leave of a line.
    Rest(&'static str),
}

impl Column {
    fn name(self) -> &'static str {
        let (Self::Left(name) | Self::Right(name) | Self::Spare(name) | Self::Rest(name)) = self;
        name
    }
}

/// Number of blanks between columns.
const GAP: usize = 2;

/// Minimum width of [`Column::Rest`], in characters: a longer line is better than less of the text.
const REST_MIN: usize = 24;

/// Maximum width of [`Column::Rest`], in characters, if lines have no limit.
const REST_MAX: usize = 200;

/// Renders a table whose lines are no longer than `width`, as far as that is possible without cutting what is copied.
pub(crate) fn fitted(
    columns: &[Column],
    mut rows: Vec<Vec<Cell>>,
    width: Option<usize>,
    paint: Paint,
) -> String {
    let mut columns = columns.to_vec();
    let width_of = |columns: &[Column], rows: &[Vec<Cell>], n: usize| {
        let cells = rows.iter().map(|row| row[n].content().chars().count());
        cells.chain([columns[n].name().len()]).max().unwrap_or(0)
    };
    let is_rest = |column: &Column| matches!(column, Column::Rest(_));
    let others = |columns: &[Column], rows: &[Vec<Cell>]| -> usize {
        let fixed = (0..columns.len()).filter(|n| !is_rest(&columns[*n]));
        fixed.map(|n| width_of(columns, rows, n) + GAP).sum()
    };
    if let Some(width) = width {
        let has_text = columns
            .iter()
            .position(is_rest)
            .is_some_and(|n| width_of(&columns, &rows, n) > columns[n].name().len());
        let wanted = if has_text { width.saturating_sub(REST_MIN) } else { width + GAP };
        while others(&columns, &rows) > wanted {
            let Some(spare) = columns.iter().rposition(|column| matches!(column, Column::Spare(_))) else {
                break;
            };
            columns.remove(spare);
            rows.iter_mut().for_each(|row| drop(row.remove(spare)));
        }
    }
    if let Some(rest) = columns.iter().position(is_rest) {
        let room =
            width.map_or(REST_MAX, |width| width.saturating_sub(others(&columns, &rows)).max(REST_MIN));
        for row in &mut rows {
            let text = row[rest].content();
            if text.chars().count() > room {
                let cut: String = text.chars().take(room - 1).chain(['…']).collect();
                row[rest] = Cell::new(cut);
            }
        }
    }
    table(&columns, rows, paint)
}

/// Renders a table with a line for each of `rows`.
pub(crate) fn table(columns: &[Column], rows: impl IntoIterator<Item = Vec<Cell>>, paint: Paint) -> String {
    let mut table = Table::new();
    // The terminal wraps a line that is too long, and it is still whole when it is copied.
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    match paint {
        Paint::Colored => table.enforce_styling(),
        Paint::Plain => table.force_no_tty(),
    };
    table.set_header(columns.iter().map(|column| Cell::new(column.name()).add_attribute(Attribute::Bold)));
    for row in rows {
        table.add_row(row);
    }
    for (cells, column) in table.column_iter_mut().zip(columns) {
        cells.set_padding((0, 2));
        if let Column::Right(_) | Column::Spare(_) = column {
            cells.set_cell_alignment(CellAlignment::Right);
        }
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

/// Creates the cell of a job's state, in the colour that [`Paint::state`] gives it.
pub(crate) fn state_cell(state: State) -> Cell {
    Cell::new(state.slug()).fg(job::color(state).of_cell())
}

/// Renders names and values, with the values aligned.
pub(crate) fn pairs<'p>(pairs: impl IntoIterator<Item = (&'p str, String)>, paint: Paint) -> String {
    let pairs: Vec<(&str, String)> = pairs.into_iter().collect();
    let width = pairs.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let line = |(name, value): &(&str, String)| {
        let mut lines = value.lines();
        let first = lines.next().unwrap_or_default();
        let name = paint.dim(&format!("{name:width$}"));
        lines.fold(format!("{name}  {first}"), |text, line| format!("{text}\n{:width$}  {line}", ""))
    };
    pairs.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Renders bytes that are JSON by convention: indented if they are JSON, as text if they are UTF-8, else as their length.
/// Nothing in them is changed: numbers are shown to the last digit, keys as often as they occur.
pub(crate) fn content(content: &[u8]) -> String {
    if let Ok(value) = serde_json::from_slice::<&RawValue>(content) {
        return text::block(&indented(value.get())).into_owned();
    }
    match std::str::from_utf8(content) {
        Ok("") => "(empty)".to_owned(),
        Ok(shown) => text::block(shown).into_owned(),
        Err(_) => format!("({} that are no text)", bytes(content.len() as u64)),
    }
}

/// Maximum depth of JSON that is indented. Deeper JSON is shown as it is written: its indentation would be larger than
/// itself.
const INDENTED_MAX: usize = 64;

/// Indents JSON, with a line for each of its members. It is parsed no further than that, so nothing of it is lost.
fn indented(json: &str) -> String {
    let mut text = String::with_capacity(json.len() * 2);
    let (mut depth, mut in_string, mut escaped, mut opened) = (0usize, false, false, false);
    let line = |text: &mut String, depth: usize| {
        text.push('\n');
        text.extend(std::iter::repeat_n("  ", depth));
    };
    for c in json.chars() {
        if in_string {
            text.push(c);
            (in_string, escaped) = (escaped || c != '"', !escaped && c == '\\');
            continue;
        }
        if c.is_ascii_whitespace() {
            continue;
        }
        let closes = matches!(c, '}' | ']');
        if opened && !closes {
            line(&mut text, depth);
        }
        match c {
            '{' | '[' => depth += 1,
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                if !opened {
                    line(&mut text, depth);
                }
            }
            _ => in_string = c == '"',
        }
        if depth > INDENTED_MAX {
            return json.to_owned();
        }
        text.push(c);
        match c {
            ',' => line(&mut text, depth),
            ':' => text.push(' '),
            _ => {}
        }
        opened = matches!(c, '{' | '[');
    }
    text
}

/// Renders a number of things: `1 job`, `2 jobs`.
pub(crate) fn of(n: u64, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenants_text_can_not_command_the_terminal() {
        assert_eq!(content("a\x1b[2J\u{9b}b\tc\n".as_bytes()), "a\\u{1b}[2J\\u{9b}b\tc\n");
        assert!(!content(b"\"\\u001b[2J\"").contains('\x1b'));
    }

    #[test]
    fn content_is_shown_as_what_it_is() {
        assert_eq!(content(b"{\"a\":1}"), "{\n  \"a\": 1\n}");
        let exact = r#" {"z": [18446744073709551616, 1.10, {}], "a": 1, "a": "\\\"{,", "n": [ ]}"#;
        let shown = "{\n  \"z\": [\n    18446744073709551616,\n    1.10,\n    {}\n  ],\n  \"a\": 1,\n  \"a\": \"\\\\\\\"{,\",\n  \"n\": []\n}";
        assert_eq!(content(exact.as_bytes()), shown);
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        assert_eq!(content(deep.as_bytes()), deep);
        assert_eq!(content(b"plain"), "plain");
        assert_eq!(content(b"\xff\xfe"), "(2 B that are no text)");
        assert_eq!(content(b""), "(empty)");
    }

    #[test]
    fn tables_line_up_and_are_plain_where_they_shall_be() {
        let rows = [["a", "1"], ["long", "12345"]];
        let rows = rows.map(|row| row.map(Cell::new).to_vec());
        let text = table(&[Column::Left("name"), Column::Right("n")], rows.clone(), Paint::Plain);
        assert_eq!(text, "name      n\na         1\nlong  12345");
        let wide = vec![vec![Cell::new("x".repeat(300)), Cell::new("y")]];
        let text = table(&[Column::Left("name"), Column::Left("n")], wide, Paint::Plain);
        assert!(
            text.lines().any(|line| line.starts_with(&"x".repeat(300))),
            "what is copied is whole: {text}"
        );
        assert!(table(&[Column::Left("name"), Column::Right("n")], rows, Paint::Colored).contains('\x1b'));
    }

    #[test]
    fn a_table_leaves_out_and_cuts_what_it_may_where_lines_are_short() {
        let columns =
            [Column::Left("job"), Column::Spare("fuel"), Column::Spare("cpu"), Column::Rest("message")];
        let message = "m".repeat(60);
        let row = ["0123456789", "1.00M", "1.00s", message.as_str()].map(Cell::new).to_vec();
        let at = |width| {
            let text = fitted(&columns, vec![row.clone()], width, Paint::Plain);
            text.lines().next_back().expect("a row").to_owned()
        };
        assert_eq!(at(None), format!("0123456789  1.00M  1.00s  {message}"));
        assert_eq!(at(Some(50)), format!("0123456789  1.00M  1.00s  {}…", "m".repeat(23)));
        assert_eq!(at(Some(49)), format!("0123456789  1.00M  {}…", "m".repeat(29)));
        assert_eq!(at(Some(20)), format!("0123456789  {}…", "m".repeat(23)));
    }
}
