//! Labels: names and values of a producer's own, which stay with a job for people and programs to see.

use std::collections::BTreeMap;

use crate::id::{InvalidName, LabelName, LabelValue};

/// Maximum number of labels of a job.
pub const LABELS_MAX: usize = 16;

/// Labels of a job, at most [`LABELS_MAX`], each name once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels(BTreeMap<LabelName, LabelValue>);

/// Error for a label that can't be added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLabel {
    /// The text has no `=`.
    #[error("\"{0}\" is no label: a name and a value, as in env=prod")]
    NoValue(String),
    /// The name or the value breaks its rule.
    #[error(transparent)]
    Invalid(#[from] InvalidName),
    /// There is another label of that name.
    #[error("there is a label \"{0}\" already")]
    Twice(LabelName),
    /// There are as many labels as may be.
    #[error("a job has at most {LABELS_MAX} labels")]
    TooMany,
}

impl Labels {
    /// Parses a name and a value with `=` between them.
    ///
    /// # Errors
    /// If the text has no `=`, or one of the two breaks its rule.
    pub fn parse(text: &str) -> Result<(LabelName, LabelValue), InvalidLabel> {
        let (name, value) = text.split_once('=').ok_or_else(|| InvalidLabel::NoValue(text.to_owned()))?;
        Ok((LabelName::parse(name)?, LabelValue::parse(value)?))
    }

    /// Collects labels.
    ///
    /// # Errors
    /// If two have the same name, or they are too many.
    pub fn of(labels: impl IntoIterator<Item = (LabelName, LabelValue)>) -> Result<Self, InvalidLabel> {
        let mut all = BTreeMap::new();
        for (name, value) in labels {
            if all.len() == LABELS_MAX {
                return Err(InvalidLabel::TooMany);
            }
            if all.insert(name.clone(), value).is_some() {
                return Err(InvalidLabel::Twice(name));
            }
        }
        Ok(Self(all))
    }

    /// Returns the labels in the order of their names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&LabelName, &LabelValue)> {
        self.0.iter()
    }

    /// Returns the value of the label of this name; `None` if there is no such label.
    #[must_use]
    pub fn get(&self, name: &LabelName) -> Option<&LabelValue> {
        self.0.get(name)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_bounded_and_each_name_is_once() {
        let label = |n: usize| Labels::parse(&format!("n{n}=v")).expect("a valid label");
        assert_eq!(
            Labels::of((0..LABELS_MAX).map(label)).expect("as many as may be").iter().len(),
            LABELS_MAX
        );
        assert_eq!(Labels::of((0..=LABELS_MAX).map(label)), Err(InvalidLabel::TooMany));
        assert!(matches!(Labels::of([label(1), label(1)]), Err(InvalidLabel::Twice(_))));
        assert!(Labels::parse("customer=").is_ok() && Labels::parse("a=b=c").is_ok());
        for wrong in ["", "env", "=prod", "Env=prod", "env=a\nb"] {
            assert!(Labels::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
