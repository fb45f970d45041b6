//! The text format of Prometheus, version 0.0.4.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::families::{ALL, Family};
use super::histogram::Counted;

/// Content type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Samples, which become a text with those of a family together.
#[derive(Debug, Default)]
pub struct Exposition {
    /// Lines by the name of the family.
    samples: BTreeMap<&'static str, String>,
}

impl Exposition {
    /// Adds a sample. The values of its labels are in the order of the family's.
    pub fn add(&mut self, family: &'static Family, labels: &[&str], value: f64) {
        self.line(family, "", labels, None, value);
    }

    /// Adds what a histogram has counted.
    pub fn add_histogram(&mut self, family: &'static Family, labels: &[&str], counted: &Counted) {
        let mut below = 0;
        for (bound, count) in &counted.buckets {
            below += count;
            let bound = bound.map_or_else(|| "+Inf".to_owned(), |bound| bound.to_string());
            self.line(family, "_bucket", labels, Some(&bound), below as f64);
        }
        self.line(family, "_sum", labels, None, counted.sum);
        self.line(family, "_count", labels, None, below as f64);
    }

    fn line(
        &mut self,
        family: &'static Family,
        suffix: &str,
        labels: &[&str],
        bound: Option<&str>,
        value: f64,
    ) {
        debug_assert_eq!(family.labels.len(), labels.len(), "{}", family.name);
        let line = self.samples.entry(family.name).or_default();
        line.push_str(family.name);
        line.push_str(suffix);
        let labels = family.labels.iter().copied().zip(labels.iter().copied());
        let labels = labels.chain(bound.map(|bound| ("le", bound)));
        let mut sign = '{';
        for (name, text) in labels {
            line.push(sign);
            sign = ',';
            line.push_str(name);
            line.push_str("=\"");
            for c in text.chars() {
                match c {
                    '\\' => line.push_str("\\\\"),
                    '"' => line.push_str("\\\""),
                    '\n' => line.push_str("\\n"),
                    other => line.push(other),
                }
            }
            line.push('"');
        }
        if sign == ',' {
            line.push('}');
        }
        // Writing to a string can't fail.
        let _ = writeln!(line, " {value}");
    }

    /// Returns the text.
    #[must_use]
    pub fn into_text(self) -> String {
        let mut text = String::new();
        for Family { name, of, help, .. } in ALL {
            if let Some(samples) = self.samples.get(name) {
                let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {}\n{samples}", of.slug());
            }
        }
        text
    }
}
