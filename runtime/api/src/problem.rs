//! Problems in the sense of RFC 9457: why something wasn't done.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Media type of a [`Problem`].
pub const PROBLEM_JSON: &str = "application/problem+json";

macro_rules! slugs {
    ($($(#[doc = $doc:literal])* $variant:ident = $slug:literal, $status:literal, $title:literal;)*) => {
        /// Kind of a problem, by a name that doesn't change.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Slug {
            $($(#[doc = $doc])* #[serde(rename = $slug)] $variant,)*
            /// A kind that only a later version has.
            #[serde(other, rename = "other")]
            Other,
        }

        impl Slug {
            /// All kinds that this version knows.
            pub const ALL: &[Slug] = &[$(Self::$variant),*];

            /// The name.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $slug,)*
                    Self::Other => "other",
                }
            }

            /// The HTTP status for problems of this kind.
            #[must_use]
            pub fn status(self) -> u16 {
                match self {
                    $(Self::$variant => $status,)*
                    Self::Other => 500,
                }
            }

            /// Meaning of the kind, the same for all its problems.
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
    /// The request took too long to come in.
    RequestTimeout = "request-timeout", 408, "the request took too long to come in";
    /// The request is larger than the daemon takes.
    RequestTooLarge = "request-too-large", 413, "the request is too large";
    /// There is nothing at the path.
    UnknownRoute = "unknown-route", 404, "there is nothing at this path";
    /// The path has no such method.
    MethodNotAllowed = "method-not-allowed", 405, "the path has no such method";
    /// The caller has shown no token that is good for anything.
    Unauthenticated = "unauthenticated", 401, "this takes a token";
    /// The caller may not do this.
    Forbidden = "forbidden", 403, "this isn't allowed";
    /// There is no such tenant, or it is not the caller's.
    UnknownTenant = "unknown-tenant", 404, "there is no such tenant";
    /// There is no such job, or its tenant is not the caller's.
    UnknownJob = "unknown-job", 404, "there is no such job";
    /// There is no such schedule, or its tenant is not the caller's.
    UnknownSchedule = "unknown-schedule", 404, "there is no such schedule";
    /// There is no such breaker, or its tenant is not the caller's.
    UnknownBreaker = "unknown-breaker", 404, "there is no such breaker";
    /// There is no such plugin or revision, or its tenant is not the caller's.
    UnknownPlugin = "unknown-plugin", 404, "there is no such plugin or revision";
    /// The request is for a name under which the daemon isn't reached.
    UnknownHost = "unknown-host", 421, "the daemon isn't reached by this name";
    /// The caller has made too many requests of late.
    RateLimited = "rate-limited", 429, "there were too many requests";
    /// A tenant's jobs that wait have reached their bounds.
    QueueFull = "queue-full", 429, "no more jobs may wait";
    /// Too much is being done at once.
    Busy = "busy", 503, "too much is being done at once";
    /// The request may mean several things.
    Ambiguous = "ambiguous", 409, "several things may be meant";
    /// The request can't be fulfilled as things stand.
    Conflict = "conflict", 409, "this can't be done as things stand";
    /// The configuration is wrong.
    WrongConfiguration = "wrong-configuration", 409, "the configuration is wrong";
    /// The daemon is about to end, or there is none.
    NoDaemon = "no-daemon", 503, "there is no daemon that could do this";
    /// The broker can't be reached, or didn't answer.
    BrokerUnavailable = "broker-unavailable", 503, "the broker can't be reached";
    /// The broker takes no writes, as it is full.
    BrokerFull = "broker-full", 503, "the broker is full";
    /// The broker can be reached, but can't be used.
    BrokerUnfit = "broker-unfit", 500, "the broker can't be used";
}

impl fmt::Display for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Reason why something wasn't done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{detail}")]
pub struct Problem {
    /// URN that ends with the slug.
    #[serde(rename = "type")]
    pub kind: String,
    /// Kind of the problem.
    pub slug: Slug,
    /// Meaning of the kind.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// Description of what was being done, to what, and what went wrong.
    pub detail: String,
    /// Suggestions of what to do about it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub help: Vec<String>,
}

impl Problem {
    /// Creates a problem of this kind.
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

    /// Adds a suggestion of what to do.
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
