//! The console: results go to standard output, everything else to standard error.

use std::io::{self, BufRead, ErrorKind, IsTerminal, Write};
use std::time::Duration;

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use sandhog_core::text;
use serde::Serialize;

use crate::exit::Failure;
use crate::output::Paint;

/// The format of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Tables and text, for people.
    People,
    /// One JSON document, for programs.
    Json,
}

/// Whether a command comments on what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remarks {
    /// Remarks and progress go to standard error.
    On,
    /// Only results and errors are printed.
    Off,
}

/// Use of colours in the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless `NO_COLOR` is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The standard streams, and how to print to them.
#[derive(Debug, Clone, Copy)]
pub struct Console {
    /// The format of results.
    pub format: Format,
    remarks: Remarks,
    color: Color,
}

impl Console {
    /// Creates a console on the standard streams of this process.
    #[must_use]
    pub fn new(format: Format, remarks: Remarks, color: Color) -> Self {
        Self { format, remarks, color }
    }

    /// Whether a command comments on what it does.
    #[must_use]
    pub fn remarks(&self) -> Remarks {
        self.remarks
    }

    /// Returns the colours for standard output.
    #[must_use]
    pub fn paint(&self) -> Paint {
        self.paint_for(&io::stdout())
    }

    /// Returns the colours for standard error.
    #[must_use]
    pub fn paint_remarks(&self) -> Paint {
        self.paint_for(&io::stderr())
    }

    fn paint_for(&self, stream: &impl IsTerminal) -> Paint {
        let wanted = match self.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => {
                let is = |name, value: &str| std::env::var_os(name).is_some_and(|found| found == value);
                let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
                stream.is_terminal() && !refused && !is("TERM", "dumb")
            }
        };
        if wanted { Paint::Colored } else { Paint::Plain }
    }

    /// Returns the width of the terminal that results go to, in characters; `None` if they go elsewhere.
    #[must_use]
    pub fn width(&self) -> Option<usize> {
        comfy_table::Table::new().width().map(usize::from)
    }

    /// Asks the user a yes-or-no question.
    ///
    /// # Errors
    /// If nobody can answer.
    pub fn ask(&self, question: &str) -> Result<bool, Failure> {
        let nobody = || {
            let failure = Failure::new(format!("nobody is there to say yes to: {question}"));
            failure.help("--yes does it without asking")
        };
        if !io::stdin().is_terminal() {
            return Err(nobody());
        }
        let mut stderr = io::stderr().lock();
        let asked = write!(stderr, "{question} [y/N] ").and_then(|()| stderr.flush());
        let mut answer = String::new();
        asked.and_then(|()| io::stdin().lock().read_line(&mut answer)).map_err(|_| nobody())?;
        Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
    }

    /// Writes a result, with a line break after it.
    ///
    /// # Errors
    /// If the reader is gone, or it can't be written.
    pub fn result(&self, text: &str) -> Result<(), Failure> {
        self.bytes(format!("{text}\n").as_bytes())
    }

    /// Writes bytes of a result as they are.
    ///
    /// # Errors
    /// If the reader is gone, or they can't be written.
    pub fn bytes(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|cause| unwritten(&cause))
    }

    /// Writes a result as a JSON document.
    ///
    /// # Errors
    /// If the reader is gone, or it can't be written.
    pub fn json(&self, value: &impl Serialize) -> Result<(), Failure> {
        let document =
            serde_json::to_string_pretty(value).map_err(|cause| Failure::new(cause.to_string()))?;
        self.result(&text::json(&document))
    }

    /// Writes a result in the console's format: `value` as JSON, or `text`.
    ///
    /// # Errors
    /// If the reader is gone, or it can't be written.
    pub fn show<T: Serialize>(&self, value: &T, text: impl FnOnce() -> String) -> Result<(), Failure> {
        match self.format {
            Format::Json => self.json(value),
            Format::People => self.result(text().trim_end()),
        }
    }

    /// Writes a remark to standard error, unless remarks are off.
    pub fn remark(&self, text: &str) {
        if self.remarks == Remarks::On {
            self.complain(text);
        }
    }

    /// Writes a warning to standard error, unless remarks are off: a remark on what may turn out other than was meant.
    pub fn warn(&self, text: &str) {
        self.remark(&format!("{} {}", self.paint_remarks().yellow("warning:"), text::block(text)));
    }

    /// Writes to standard error, even if remarks are off.
    pub fn complain(&self, text: &str) {
        // If standard error is gone, there is no one left to tell.
        let _ = writeln!(io::stderr().lock(), "{text}");
    }

    /// Creates a progress bar of known length. Shown only on a terminal.
    #[must_use]
    pub fn bar(&self, length: u64, what: &str) -> ProgressBar {
        const BAR: &str = "{msg} [{bar:30}] {human_pos}/{human_len} {elapsed}";
        self.progress(ProgressBar::with_draw_target(Some(length), self.target()), BAR, what)
    }

    /// Creates a spinner for something of unknown length. Shown only on a terminal.
    #[must_use]
    pub fn spinner(&self, what: &str) -> ProgressBar {
        let spinner = ProgressBar::with_draw_target(None, self.target());
        self.progress(spinner, "{spinner} {msg} {elapsed}", what)
    }

    fn target(&self) -> ProgressDrawTarget {
        match self.remarks {
            Remarks::On => ProgressDrawTarget::stderr(),
            Remarks::Off => ProgressDrawTarget::hidden(),
        }
    }

    fn progress(&self, bar: ProgressBar, template: &str, what: &str) -> ProgressBar {
        const REDRAWN_EVERY: Duration = Duration::from_millis(100);
        bar.set_style(ProgressStyle::with_template(template).expect("the templates above are right"));
        bar.set_message(what.to_owned());
        bar.enable_steady_tick(REDRAWN_EVERY);
        bar
    }
}

fn unwritten(cause: &io::Error) -> Failure {
    match cause.kind() {
        ErrorKind::BrokenPipe => Failure::nobody_reads(),
        _ => Failure::io("write the result", cause),
    }
}
