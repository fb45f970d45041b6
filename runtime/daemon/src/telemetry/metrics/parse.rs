//! A strict reader of the text format, which refuses what any scraper may refuse.

use std::collections::{BTreeMap, BTreeSet};

/// Samples of a text, by name and labels as they are written.
pub(crate) struct Samples(BTreeMap<String, f64>);

impl Samples {
    /// Returns the value of a sample; `None` if there is no such sample.
    pub(crate) fn value(&self, sample: &str) -> Option<f64> {
        self.0.get(sample).copied()
    }

    /// Returns the names of all samples that begin like this.
    pub(crate) fn of<'s>(&'s self, start: &'s str) -> impl Iterator<Item = (&'s str, f64)> {
        self.0.iter().filter(move |(name, _)| name.starts_with(start)).map(|(name, value)| (&**name, *value))
    }
}

/// Reads a text.
///
/// # Panics
/// If a family isn't declared before its samples or is there twice, a line has another form, a sample is there twice, or the buckets of a
/// histogram don't rise to its count.
pub(crate) fn parse(text: &str) -> Samples {
    assert!(text.ends_with('\n'), "the last line ends");
    let (mut families, mut samples) = (BTreeSet::new(), BTreeMap::new());
    let mut family = (String::new(), String::new());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a family is described");
            assert!(is_name(name) && !help.is_empty() && families.insert(name.to_owned()), "{line}");
            let of = lines.next().and_then(|line| line.strip_prefix(&format!("# TYPE {name} ")));
            let of = of.unwrap_or_else(|| panic!("the type of {name} follows"));
            assert!(["counter", "gauge", "histogram"].contains(&of), "{of}");
            family = (name.to_owned(), of.to_owned());
            continue;
        }
        let (sample, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
        let (name, labels) = sample.split_once('{').unwrap_or((sample, "}"));
        let suffix =
            name.strip_prefix(family.0.as_str()).unwrap_or_else(|| panic!("of another family: {line}"));
        match family.1.as_str() {
            "histogram" => assert!(["_bucket", "_sum", "_count"].contains(&suffix), "{line}"),
            _ => assert_eq!(suffix, "", "{line}"),
        }
        check_labels(labels.strip_suffix('}').unwrap_or_else(|| panic!("labels don't end: {line}")), line);
        assert!(samples.insert(sample.to_owned(), value).is_none(), "twice: {line}");
    }
    check_histograms(&samples);
    Samples(samples)
}

fn is_name(text: &str) -> bool {
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    text.starts_with(|c: char| c.is_ascii_lowercase()) && text.chars().all(is_part)
}

/// Checks that labels are names with texts in quotes, and commas between them.
fn check_labels(labels: &str, line: &str) {
    let mut rest = labels;
    let mut names = BTreeSet::new();
    while !rest.is_empty() {
        let (name, value) = rest.split_once("=\"").unwrap_or_else(|| panic!("no value: {line}"));
        assert!(is_name(name) && names.insert(name), "{line}");
        let (mut is_escaped, mut end) = (false, None);
        for (at, c) in value.char_indices() {
            match c {
                _ if is_escaped => {
                    assert!("\\\"n".contains(c), "{line}");
                    is_escaped = false;
                }
                '\\' => is_escaped = true,
                '"' => {
                    end = Some(at);
                    break;
                }
                _ => {}
            }
        }
        let end = end.unwrap_or_else(|| panic!("a text doesn't end: {line}"));
        rest = &value[end + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
}

fn check_histograms(samples: &BTreeMap<String, f64>) {
    let mut last: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    let mut buckets: Vec<(String, f64, f64)> = Vec::new();
    for (sample, value) in samples.iter().filter(|(sample, _)| sample.contains("_bucket{")) {
        let (labels, bound) = sample.rsplit_once("le=\"").expect("a bucket has a bound");
        let bound = bound.strip_suffix("\"}").expect("it is the last label");
        let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().expect("a bound is a number") };
        buckets.push((labels.trim_end_matches([',', '{']).to_owned(), bound, *value));
    }
    buckets.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    for (of, bound, value) in buckets {
        let before = last.insert(of.clone(), (bound, value));
        assert!(before.is_none_or(|(lower, below)| lower < bound && below <= value), "{of}");
    }
    for (of, (bound, value)) in last {
        let count = of.replacen("_bucket", "_count", 1);
        let count = if count.contains('{') { format!("{count}}}") } else { count };
        assert_eq!((bound, samples.get(&count)), (f64::INFINITY, Some(&value)), "{count}");
    }
}

#[test]
fn what_a_scraper_refuses_is_refused() {
    let head = "# HELP a_total It.\n# TYPE a_total counter\n";
    for right in ["a_total 1\n", "a_total{b=\"c\\\"d\"} 1\na_total{b=\"e\"} 2.5\n"] {
        parse(&format!("{head}{right}"));
    }
    for wrong in [
        "a_total 1",
        "a_total x\n",
        "b_total 1\n",
        "a_total_sum 1\n",
        "a_total{b=c} 1\n",
        "a_total{b=\"c\" 1\n",
        "a_total{b=\"\\x\"} 1\n",
        "a_total 1\na_total 1\n",
        "# HELP a_total It.\n# TYPE a_total counter\n",
    ] {
        let text = format!("{head}{wrong}");
        assert!(std::panic::catch_unwind(|| parse(&text)).is_err(), "{wrong}");
    }
}
