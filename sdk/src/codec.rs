//! Payloads, outputs and state values: JSON of any serde type, or raw bytes.

use std::borrow::Cow;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Types that can be decoded from a payload or a state value: any `serde::Deserialize` from JSON, or [`Bytes`] as they are.
pub trait Decode: Sized {
    /// Decodes the value.
    ///
    /// # Errors
    /// If the bytes are not the JSON of this type.
    fn decode(bytes: Vec<u8>) -> Result<Self, InvalidJson>;
}

/// Types that can be encoded to an output, a payload or a state value: any `serde::Serialize` as JSON, or [`Bytes`] as they
/// are.
pub trait Encode {
    /// Returns the value's bytes.
    ///
    /// # Errors
    /// If the value has no JSON form, such as a map whose keys aren't text.
    fn encode(&self) -> Result<Cow<'_, [u8]>, InvalidJson>;

    /// Returns the value's bytes, without a copy if the value has them already.
    ///
    /// # Errors
    /// As [`Self::encode`].
    fn into_bytes(self) -> Result<Vec<u8>, InvalidJson>
    where
        Self: Sized,
    {
        self.encode().map(Cow::into_owned)
    }
}

/// Raw bytes, for use instead of JSON: as a handler's input or output, as a payload, as a state value.
///
/// ```
/// # use sandhog_sdk::{Bytes, Result, handler};
/// #[handler(kind = "text.reverse")]
/// fn reverse(Bytes(mut payload): Bytes) -> Result<Bytes> {
///     payload.reverse();
///     Ok(Bytes(payload))
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bytes(pub Vec<u8>);

/// Error for JSON that isn't of the expected type, or for a value that has no JSON form.
///
/// The text names the place and what was expected there, never the value that was found: payloads and state are
/// confidential, and errors are seen by many.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct InvalidJson {
    problem: String,
}

impl InvalidJson {
    fn new(error: &serde_json::Error) -> Self {
        let text = error.to_string();
        // The text ends with the place, which is added again below; line 0 means that there is none, as when a value can't
        // be written.
        let place = format!(" at line {} column {}", error.line(), error.column());
        let what = text.strip_suffix(&place).unwrap_or(&text);
        let place = if error.line() == 0 { "" } else { &place };
        Self { problem: format!("{}{place}", without_value(what)) }
    }
}

/// Phrases with which serde begins a message that goes on with the value that was found.
const PHRASES_WITH_VALUES: [&str; 5] =
    ["invalid type", "invalid value", "unknown variant", "unknown field", "invalid length"];

fn without_value(message: &str) -> Cow<'_, str> {
    let Some(phrase) = PHRASES_WITH_VALUES.into_iter().find(|phrase| message.starts_with(phrase)) else {
        return message.into();
    };
    match message.rfind(", expected ") {
        Some(at) => format!("{phrase}{}", &message[at..]).into(),
        None => phrase.into(),
    }
}

impl<T: DeserializeOwned> Decode for T {
    fn decode(bytes: Vec<u8>) -> Result<Self, InvalidJson> {
        serde_json::from_slice(&bytes).map_err(|error| InvalidJson::new(&error))
    }
}

impl Decode for Bytes {
    fn decode(bytes: Vec<u8>) -> Result<Self, InvalidJson> {
        Ok(Self(bytes))
    }
}

impl<T: Serialize + ?Sized> Encode for T {
    fn encode(&self) -> Result<Cow<'_, [u8]>, InvalidJson> {
        serde_json::to_vec(self).map(Cow::Owned).map_err(|error| InvalidJson::new(&error))
    }
}

impl Encode for Bytes {
    fn encode(&self) -> Result<Cow<'_, [u8]>, InvalidJson> {
        Ok(Cow::Borrowed(&self.0))
    }

    fn into_bytes(self) -> Result<Vec<u8>, InvalidJson> {
        Ok(self.0)
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::collections::BTreeMap;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "lowercase")]
    enum Shape {
        #[allow(dead_code)]
        Square { side: u8 },
    }

    fn problem(json: &str) -> String {
        Shape::decode(json.into()).expect_err("no such shape").to_string()
    }

    #[test]
    fn a_problem_names_its_place_and_what_was_expected() {
        assert_eq!(problem("{\n \"square\": {}}"), "missing field `side` at line 2 column 13");
        assert_eq!(problem("{\"square\": {\"side\": 1}"), "EOF while parsing an object at line 1 column 22");
    }

    #[test]
    fn a_problem_shows_nothing_of_the_value() {
        assert_eq!(
            problem(r#"{"square": {"side": "hunter2"}}"#),
            "invalid type, expected u8 at line 1 column 29"
        );
        assert_eq!(
            problem(r#"{"square": {"side": "x, expected hunter2"}}"#),
            "invalid type, expected u8 at line 1 column 41"
        );
        assert_eq!(problem(r#"{"square": {"side": 256}}"#), "invalid value, expected u8 at line 1 column 23");
        assert_eq!(
            problem(r#"{"square": {"hunter2": 1}}"#),
            "unknown field, expected `side` at line 1 column 21"
        );
        assert_eq!(problem(r#"{"hunter2": {}}"#), "unknown variant, expected `square` at line 1 column 10");
    }

    #[test]
    fn a_value_without_a_json_form_is_refused() {
        let keyed_by_list = BTreeMap::from([([1, 2], 3)]);
        assert_eq!(
            keyed_by_list.encode().expect_err("keys must be text").to_string(),
            "key must be a string"
        );
    }

    #[test]
    fn bytes_stay_as_they_are() {
        let bytes = b"{not json\xff".to_vec();
        assert_eq!(Bytes::decode(bytes.clone()), Ok(Bytes(bytes.clone())));
        assert_eq!(Bytes(bytes.clone()).into_bytes(), Ok(bytes));
    }
}
