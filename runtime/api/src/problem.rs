//! Why something wasn't done, as RFC 9457 has it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The media type of a [`Problem`].
pub const PROBLEM_JSON: &str = "application/problem+json";

macro_rules! slugs {
    ($($(#[doc = $doc:literal])* $variant:ident = $slug:literal, $status:literal, $title:literal;)*) => {
        /// What kind of problem it is, by a name that doesn't change.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Slug {
            $($(#[doc = $doc])* #[serde(rename = $slug)] $variant,)*
            /// One that a later version has.
            #[serde(other, rename = "other")]
            Other,
        }

        impl Slug {
            /// All that this version knows.
            pub const ALL: &[Slug] = &[$(Self::$variant),*];

            /// The name.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $slug,)*
                    Self::Other => "other",
                }
            }

            /// The status of HTTP that goes with it.
            #[must_use]
            pub fn status(self) -> u16 {
                match self {
                    $(Self::$variant => $status,)*
                    Self::Other => 500,
                }
            }

            /// What it means, the same for all problems of the kind.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self {
                    $(Self::$variant => $title,)*
                    Self::Other => "something went wrong",
                }
            }
        }
    };
}

slugs! {
    /// The request can't be understood.
    MalformedRequest = "malformed-request", 400, "the request can't be understood";
    /// It took too long to come in.
    RequestTimeout = "request-timeout", 408, "the request took too long to come in";
    /// It is larger than the daemon takes.
    RequestTooLarge = "request-too-large", 413, "the request is too large";
    /// There is nothing at the path.
    UnknownRoute = "unknown-route", 404, "there is nothing at this path";
    /// The path has no such method.
    MethodNotAllowed = "method-not-allowed", 405, "the path has no such method";
    /// Whoever asks may not do this.
    Forbidden = "forbidden", 403, "this isn't allowed";
    /// There is no such tenant, or it is none of the caller's.
    UnknownTenant = "unknown-tenant", 404, "there is no such tenant";
    /// There is no such job, or its tenant is none of the caller's.
    UnknownJob = "unknown-job", 404, "there is no such job";
    /// There is no such plugin or revision, or its tenant is none of the caller's.
    UnknownPlugin = "unknown-plugin", 404, "there is no such plugin or revision";
    /// Several things may be meant.
    Ambiguous = "ambiguous", 409, "several things may be meant";
    /// It can't be done as things stand.
    Conflict = "conflict", 409, "this can't be done as things stand";
    /// The configuration is wrong.
    WrongConfiguration = "wrong-configuration", 409, "the configuration is wrong";
    /// The daemon is about to end, or there is none.
    NoDaemon = "no-daemon", 503, "there is no daemon that could do this";
    /// The broker can't be reached, or didn't answer.
    BrokerUnavailable = "broker-unavailable", 503, "the broker can't be reached";
    /// The broker takes no writes, as it is full.
    BrokerFull = "broker-full", 503, "the broker is full";
    /// The broker can be reached, and yet not be used.
    BrokerUnfit = "broker-unfit", 500, "the broker can't be used";
}

impl fmt::Display for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why something wasn't done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{detail}")]
pub struct Problem {
    /// A URN that ends with the slug.
    #[serde(rename = "type")]
    pub kind: String,
    /// What kind of problem it is.
    pub slug: Slug,
    /// What that means.
    pub title: String,
    /// The status of HTTP.
    pub status: u16,
    /// What was being done, to what, and what went wrong.
    pub detail: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub help: Vec<String>,
}

impl Problem {
    /// A problem of this kind.
    #[must_use]
    pub fn new(slug: Slug, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:sandhog:problem:{slug}"),
            slug,
            title: slug.title().to_owned(),
            status: slug.status(),
            detail: detail.into(),
            help: Vec::new(),
        }
    }

    /// Says what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_what_the_rfc_says() {
        let problem = Problem::new(Slug::UnknownPlugin, "there is no plugin hog").help("look");
        let text = serde_json::to_value(&problem).expect("it can be written");
        assert_eq!(
            text,
            serde_json::json!({
                "type": "urn:sandhog:problem:unknown-plugin",
                "slug": "unknown-plugin",
                "title": "there is no such plugin or revision",
                "status": 404,
                "detail": "there is no plugin hog",
                "help": ["look"],
            })
        );
        assert_eq!(serde_json::from_value::<Problem>(text).expect("it can be read"), problem);
    }

    #[test]
    fn each_slug_is_read_as_it_is_written_and_a_later_one_as_another() {
        for slug in Slug::ALL {
            assert_eq!(serde_json::to_value(slug).expect("JSON"), slug.as_str());
            assert!((400..600).contains(&slug.status()), "{slug}");
        }
        assert_eq!(serde_json::from_str::<Slug>("\"of-tomorrow\"").expect("it can be read"), Slug::Other);
    }
}
