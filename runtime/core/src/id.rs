//! Names, ids and tokens: parsed once at the edge, valid ever after.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::time::Timestamp;

/// Error for text that is not a valid name, key or id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is not a valid {what}: {rule}")]
pub struct InvalidName {
    /// Name of what the text was to be, such as `tenant`.
    pub what: &'static str,
    /// The text, cut to a length that is fit for a log.
    pub value: String,
    /// Rule that the text breaks.
    pub rule: &'static str,
}

const INVALID_VALUE_SHOWN: usize = 80;

fn invalid(what: &'static str, value: &str, rule: &'static str) -> InvalidName {
    InvalidName { what, value: value.chars().take(INVALID_VALUE_SHOWN).collect(), rule }
}

/// Whether `text` is a lower-case name, which is safe as it stands in Redis keys, file names, metric labels and log lines.
fn is_name(text: &str, length_max: usize) -> bool {
    let mut bytes = text.bytes();
    let starts_well = bytes.next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    starts_well
        && text.len() <= length_max
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
}

fn is_key(text: &str, length_max: usize) -> bool {
    !text.is_empty() && text.len() <= length_max && !text.chars().any(char::is_control)
}

fn is_content_type(text: &str) -> bool {
    let is_part = |part: &str| !part.is_empty() && !part.starts_with(' ') && !part.ends_with(' ');
    text.len() <= 127
        && text.bytes().all(|b| (b' '..=b'~').contains(&b))
        && text.split_once('/').is_some_and(|(main, sub)| is_part(main) && is_part(sub))
}

fn is_trace_parent(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let is_hex = |part: &str| part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let is_zero = |part: &str| part.bytes().all(|b| b == b'0');
    matches!(parts[..], [version, trace, parent, flags]
        if [version.len(), trace.len(), parent.len(), flags.len()] == [2, 32, 16, 2]
            && [version, trace, parent, flags].into_iter().all(is_hex)
            && version != "ff" && !is_zero(trace) && !is_zero(parent))
}

macro_rules! text_newtype {
    ($(#[$doc:meta])* $name:ident, $what:literal, $valid:expr, $rule:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks `text` against the rule of the type.
            ///
            /// # Errors
            /// If the text breaks the rule, which the error states.
            pub fn parse(text: &str) -> Result<Self, InvalidName> {
                if $valid(text) {
                    Ok(Self(text.into()))
                } else {
                    Err(invalid($what, text, $rule))
                }
            }

            /// The text itself.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::parse(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }
    };
}

text_newtype!(
    /// A team whose jobs, data, secrets, limits and share of the machine are its own.
    TenantId, "tenant", |t| is_name(t, 63),
    "1 to 63 of a-z, 0-9, `.`, `_`, `-`, starting with a letter or digit"
);
text_newtype!(
    /// A queue of one tenant.
    QueueName, "queue", |t| is_name(t, 63),
    "1 to 63 of a-z, 0-9, `.`, `_`, `-`, starting with a letter or digit"
);
text_newtype!(
    /// A named component of one tenant.
    PluginName, "plugin name", |t| is_name(t, 63),
    "1 to 63 of a-z, 0-9, `.`, `_`, `-`, starting with a letter or digit"
);
text_newtype!(
    /// Name of a rate limit that several plugins of a tenant may share, such as that of a service which they call.
    RateName, "rate", |t| is_name(t, 63),
    "1 to 63 of a-z, 0-9, `.`, `_`, `-`, starting with a letter or digit"
);
text_newtype!(
    /// A service outside that handlers call, and which they may say to be unavailable.
    DownstreamName, "downstream", |t| is_name(t, 63),
    "1 to 63 of a-z, 0-9, `.`, `_`, `-`, starting with a letter or digit"
);
text_newtype!(
    /// A circuit breaker of one tenant: that of a downstream has its name, that of a plugin is `plugin/` and the plugin's name.
    BreakerName, "breaker", |t: &str| is_name(t.strip_prefix("plugin/").unwrap_or(t), 63),
    "the name of a downstream, or `plugin/` and the name of a plugin"
);
text_newtype!(
    /// A schedule of one tenant.
    ScheduleName, "schedule name", |t| is_name(t, 63),
    "1 to 63 of a-z, 0-9, `.`, `_`, `-`, starting with a letter or digit"
);
impl BreakerName {
    /// Returns the name of a plugin's breaker.
    #[must_use]
    pub fn of_plugin(plugin: &PluginName) -> Self {
        Self(format!("plugin/{plugin}").into())
    }

    /// Whether it is the breaker of a plugin, and not of a downstream.
    #[must_use]
    pub fn is_of_plugin(&self) -> bool {
        self.0.contains('/')
    }

    /// Returns the name of a downstream's breaker.
    #[must_use]
    pub fn of_downstream(downstream: &DownstreamName) -> Self {
        Self(Arc::clone(&downstream.0))
    }
}

text_newtype!(
    /// Kind of a job: what is to be done, such as `image.thumbnail`.
    Kind, "kind", |t| is_name(t, 127),
    "1 to 127 of a-z, 0-9, `.`, `_`, `-`, starting with a letter or digit"
);
text_newtype!(
    /// Key that makes a job unique: while a job with it is not final, no second one of its tenant is created.
    UniqueKey, "unique key", |t| is_key(t, 256),
    "1 to 256 bytes without control characters"
);
text_newtype!(
    /// Key of a group of jobs in a queue, such as a customer: what its queue's rule for groups goes by.
    GroupKey, "group", |t| is_key(t, 128),
    "1 to 128 bytes without control characters"
);
text_newtype!(
    /// Name of a label of a job, such as `customer`.
    LabelName, "label name", |t| is_name(t, 63),
    "1 to 63 of a-z, 0-9, `.`, `_`, `-`, starting with a letter or digit"
);
text_newtype!(
    /// Value of a label of a job.
    LabelValue, "label value", |t: &str| t.is_empty() || is_key(t, 255),
    "at most 255 bytes without control characters"
);
text_newtype!(
    /// Code by which a handler tells one kind of its failures from others, such as `smtp-421`.
    FailureCode, "failure code", |t| is_name(t, 63),
    "1 to 63 of a-z, 0-9, `.`, `_`, `-`, starting with a letter or digit"
);
text_newtype!(
    /// Content type of a payload, such as `application/json`: for its handler and for people; nobody else goes by it.
    ContentType, "content type", is_content_type,
    "a type and a subtype with `/` between them, at most 127 visible characters of ASCII and spaces"
);
text_newtype!(
    /// Position of a job in a distributed trace: the header `traceparent` of the W3C's Trace Context.
    TraceParent, "traceparent", is_trace_parent,
    "2 hexadecimal digits, a trace id of 32, a parent id of 16 and flags of 2, with `-` between them; neither id is 0"
);
text_newtype!(
    /// What the systems on the way of a trace add to its position: the header `tracestate` of the W3C's Trace Context.
    TraceState, "tracestate", |t: &str| (1..=512).contains(&t.len()) && t.bytes().all(|b| (b' '..=b'~').contains(&b)),
    "1 to 512 visible characters of ASCII and spaces"
);
text_newtype!(
    /// Name of a job in its flow.
    FlowJobName, "name of a job in a flow", |t| is_name(t, 63),
    "1 to 63 of a-z, 0-9, `.`, `_`, `-`, starting with a letter or digit"
);
text_newtype!(
    /// Id of a key with which a tenant's data is sealed.
    KeyId, "key id", |t| is_name(t, 63),
    "1 to 63 of a-z, 0-9, `.`, `_`, `-`, starting with a letter or digit"
);
text_newtype!(
    /// Key of a value in the state of one plugin.
    StateKey, "state key", |t| is_key(t, 256),
    "1 to 256 bytes without control characters"
);

/// A job's id: a ULID, so ids sort by the time at which they were made.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(ulid::Ulid);

impl JobId {
    /// Creates an id from the time and 80 random bits (the low ones of `random`).
    #[must_use]
    pub fn from_parts(made_at: Timestamp, random: u128) -> Self {
        Self(ulid::Ulid::from_parts(made_at.as_millis(), random))
    }

    /// Returns time and random bits as one number.
    #[must_use]
    pub fn as_u128(&self) -> u128 {
        self.0.0
    }

    /// Parses the 26 letters and digits that [`fmt::Display`] prints.
    ///
    /// # Errors
    /// If the text is no ULID.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        ulid::Ulid::from_string(text)
            .map(Self)
            .map_err(|_| invalid("job id", text, "a ULID: 26 letters and digits"))
    }
}

impl FromStr for JobId {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Self::parse(text)
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Id of one run of a daemon, made anew at each start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DaemonId(ulid::Ulid);

impl DaemonId {
    /// Creates an id from the time and 80 random bits (the low ones of `random`).
    #[must_use]
    pub fn from_parts(started_at: Timestamp, random: u128) -> Self {
        Self(ulid::Ulid::from_parts(started_at.as_millis(), random))
    }

    /// Parses the 26 letters and digits that [`fmt::Display`] prints.
    ///
    /// # Errors
    /// If the text is no ULID.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let rule = "a ULID: 26 letters and digits";
        ulid::Ulid::from_string(text).map(Self).map_err(|_| invalid("daemon id", text, rule))
    }
}

impl FromStr for DaemonId {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl fmt::Display for DaemonId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for DaemonId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The number of a job's lease. It only rises, so a later holder always has the greater number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseNo(pub u64);

impl LeaseNo {
    /// Returns the number of the lease after this one.
    #[must_use]
    pub fn next(self) -> Self {
        // No store has seen 2^64 leases; one that claims so must not cause a panic.
        Self(self.0.wrapping_add(1))
    }
}

/// Proof of a lease: its holder may renew, report and settle, as long as no later lease was given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseToken {
    /// The job that was leased.
    pub job: JobId,
    /// Number of the lease among those of the job.
    pub lease: LeaseNo,
}

impl fmt::Display for LeaseToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.job, self.lease.0)
    }
}

/// Revision of a component: its sha256, which tells which code ran.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision([u8; 32]);

impl Revision {
    /// Creates the revision with this sha256.
    #[must_use]
    pub const fn from_sha256(digest: [u8; 32]) -> Self {
        Self(digest)
    }

    /// Returns the sha256.
    #[must_use]
    pub fn as_sha256(&self) -> &[u8; 32] {
        &self.0
    }

    /// Parses 64 hexadecimal digits.
    ///
    /// # Errors
    /// If the text is anything else.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let refuse = || invalid("sha256", text, "64 hexadecimal digits");
        let mut digest = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return Err(refuse());
        }
        for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| refuse())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| refuse())?;
        }
        Ok(Self(digest))
    }

    /// Returns the first twelve digits: enough to tell revisions apart in a table.
    #[must_use]
    pub fn short(&self) -> String {
        self.to_string()[..12].to_owned()
    }
}

impl FromStr for Revision {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Self::parse(text)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_that_could_break_a_redis_key_or_a_path_is_refused() {
        for bad in ["", "a:b", "a{b}", "../x", "Über", "A", "-a", ".a", "a b", "a\n", &"x".repeat(64)] {
            assert!(TenantId::parse(bad).is_err(), "{bad:?}");
        }
        for good in ["a", "acme", "team-1", "0.x_y", &"x".repeat(63)] {
            assert!(TenantId::parse(good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn a_refusal_names_the_value_and_the_rule() {
        let refusal = TenantId::parse("Acme").unwrap_err().to_string();
        assert_eq!(
            refusal,
            "`Acme` is not a valid tenant: 1 to 63 of a-z, 0-9, `.`, `_`, `-`, starting with a letter or digit"
        );
    }

    proptest! {
        #[test]
        fn ids_and_revisions_survive_their_text(ms in 0..1u64 << 48, random: u128, digest: [u8; 32]) {
            let id = JobId::from_parts(Timestamp::from_millis(ms), random);
            prop_assert_eq!(JobId::parse(&id.to_string()), Ok(id));
            let revision = Revision::from_sha256(digest);
            prop_assert_eq!(Revision::parse(&revision.to_string()), Ok(revision));
        }

        #[test]
        fn parsing_any_text_never_panics(text in ".*") {
            let _ = (JobId::parse(&text), Revision::parse(&text), TenantId::parse(&text), StateKey::parse(&text));
        }

        #[test]
        fn later_ids_sort_later(ms in 0..(1u64 << 48) - 1, a: u128, b: u128) {
            let earlier = JobId::from_parts(Timestamp::from_millis(ms), a);
            let later = JobId::from_parts(Timestamp::from_millis(ms + 1), b);
            prop_assert!(earlier < later && earlier.to_string() < later.to_string());
        }
    }
}
