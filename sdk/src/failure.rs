//! Failures of handlers.

use std::error::Error;
use std::fmt::{self, Display};
use std::io;
use std::time::Duration;

/// Result of a handler.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// Reason why a handler gave up, which decides whether the job is tried again.
///
/// Any standard error becomes a transient failure through `?`; [`permanent`], [`retry_after`] and [`OrFail`] say otherwise.
/// The message is kept with the job and shown to people: put no secret in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Failure that may go away: the job is retried by its retry policy until its attempts are used up.
    Transient {
        /// Description of what went wrong.
        message: String,
        /// Kind of the failure, for the rules of the retry policy to go by; see [`Failure::code`].
        code: Option<String>,
        /// Time to wait before the next attempt, in place of the policy's backoff; `None` for the backoff.
        retry_after: Option<Duration>,
    },
    /// Failure that trying again can't help: the job becomes a dead letter at once.
    Permanent {
        /// Description of what went wrong.
        message: String,
    },
    /// No failure: the job is run again later, and the attempt doesn't count. See [`snooze`].
    Snoozed {
        /// Time to wait.
        after: Duration,
    },
    /// No failure of the handler: what it calls takes no more calls now. See [`rate_limited`].
    RateLimited {
        /// Name of the service among those that the plugin calls; `None` for this job alone. See [`Failure::by`].
        downstream: Option<String>,
        /// Time to wait.
        after: Duration,
    },
    /// No failure of the handler: what it calls is unavailable. See [`unavailable`].
    Unavailable {
        /// Name of the service among those that the plugin calls.
        downstream: String,
        /// Time to wait; `None` for ten seconds. See [`Failure::after`].
        after: Option<Duration>,
    },
}

/// Creates a failure that may go away by itself: the job is tried again by its retry policy.
pub fn transient(message: impl Display) -> Failure {
    Failure::Transient { message: message.to_string(), code: None, retry_after: None }
}

/// Creates a failure that may go away by itself, after which the job is tried again when this time has passed.
///
/// The time counts in whole milliseconds, rounded up.
pub fn retry_after(wait: Duration, message: impl Display) -> Failure {
    Failure::Transient { message: message.to_string(), code: None, retry_after: Some(wait) }
}

/// Creates the end of an attempt that was too early: the job is run again after this time, and the attempt doesn't count.
///
/// The time is at least a second, and at most the policy's `retry_after_max`. A job that has been started 10,000 times is put off
/// no more: this then counts as a failure.
#[must_use]
pub fn snooze(wait: Duration) -> Failure {
    Failure::Snoozed { after: wait }
}

/// Creates the end of an attempt that found what it calls to take no more calls: the job is run again after this time, and the
/// attempt doesn't count. It has the bounds of [`snooze`], and is told apart from it.
#[must_use]
pub fn rate_limited(wait: Duration) -> Failure {
    Failure::RateLimited { downstream: None, after: wait }
}

/// Creates the end of an attempt that found a service, which the plugin's `calls` name, not to answer, or not to be able to do what it
/// was asked for: the job is run again after ten seconds, or after another time that [`Failure::after`] says, and the attempt doesn't
/// count. It has the bounds of [`snooze`].
///
/// If that happens to many jobs, the service's circuit breaker opens: jobs that call it wait, until a few of them find it well again.
#[must_use]
pub fn unavailable(downstream: impl Into<String>) -> Failure {
    Failure::Unavailable { downstream: downstream.into(), after: None }
}

/// Creates a failure that trying again can't mend: the job becomes a dead letter at once.
pub fn permanent(message: impl Display) -> Failure {
    Failure::Permanent { message: message.to_string() }
}

/// Turns an error, or the absence of a value, into a [`Failure`] that says what the handler was doing.
///
/// ```
/// # use sandhog_sdk::{OrFail, Result};
/// # fn parse(text: &str) -> Result<u16> {
/// let port = text.parse::<u16>().or_permanent("parse the port")?;
/// let first = text.lines().next().or_permanent("the list is empty")?;
/// # Ok(port + first.len() as u16)
/// # }
/// # assert_eq!(parse("x").unwrap_err().message(), "parse the port: invalid digit found in string");
/// # assert_eq!(parse("80").unwrap(), 82);
/// ```
pub trait OrFail<T> {
    /// Makes an error a [`permanent`] failure.
    ///
    /// # Errors
    /// If there is no value.
    fn or_permanent(self, doing: impl Display) -> Result<T>;

    /// Makes an error a [`transient`] failure. `?` alone does so too, but can't say what was being done.
    ///
    /// # Errors
    /// If there is no value.
    fn or_transient(self, doing: impl Display) -> Result<T>;

    /// Makes an error a failure that is tried again [after this time](retry_after).
    ///
    /// # Errors
    /// If there is no value.
    fn or_retry_after(self, wait: Duration, doing: impl Display) -> Result<T>;
}

/// Turns an error of `std::fs` or `std::io` into a [`Failure`], by whether trying again can help.
///
/// ```
/// # use sandhog_sdk::{OrFailIo, Result};
/// # fn read(path: &str) -> Result<String> {
/// let text = std::fs::read_to_string(path).or_fail_io(format_args!("read {path}"))?;
/// # Ok(text)
/// # }
/// let failure = read("/no/such/file").unwrap_err();
/// assert!(failure.is_permanent());
/// ```
pub trait OrFailIo<T> {
    /// Makes an error a failure by its kind: a path that isn't there, or is outside the folders that the plugin's TOML
    /// grants, is a [`permanent`] failure. So is data that is malformed or ends early. Other errors are [`transient`]
    /// unless they would be the same the next time.
    ///
    /// # Errors
    /// If there is no value.
    fn or_fail_io(self, doing: impl Display) -> Result<T>;
}

impl Failure {
    /// Returns the description of what went wrong.
    #[must_use]
    pub fn message(&self) -> &str {
        match self {
            Self::Transient { message, .. } | Self::Permanent { message } => message,
            Self::Snoozed { .. } => "snoozed",
            Self::RateLimited { .. } => "rate-limited",
            Self::Unavailable { .. } => "unavailable",
        }
    }

    /// Gives a failure that may go away a code, such as `smtp-421`, for the rules of the retry policy to go by: 1 to 63 of a-z,
    /// 0-9, `.`, `_`, `-`, starting with a letter or digit. Others have none.
    ///
    /// ```
    /// # use sandhog_sdk::{Failure, transient};
    /// let busy = transient("the mailbox is busy").code("smtp-421");
    /// # assert!(matches!(busy, Failure::Transient { code: Some(code), .. } if code == "smtp-421"));
    /// ```
    #[must_use]
    pub fn code(self, code: impl Into<String>) -> Self {
        match self {
            Self::Transient { message, retry_after, .. } => {
                Self::Transient { message, code: Some(code.into()), retry_after }
            }
            other => other,
        }
    }

    /// Names the service that takes no more calls, as the plugin's `calls` do: all jobs that call it wait, not this one alone. Failures
    /// of other kinds stay as they are.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use sandhog_sdk::{Failure, rate_limited};
    /// let busy = rate_limited(Duration::from_secs(30)).by("stripe");
    /// # assert!(matches!(busy, Failure::RateLimited { downstream: Some(name), .. } if name == "stripe"));
    /// ```
    #[must_use]
    pub fn by(self, downstream: impl Into<String>) -> Self {
        match self {
            Self::RateLimited { after, .. } => {
                Self::RateLimited { downstream: Some(downstream.into()), after }
            }
            other => other,
        }
    }

    /// Says when a job is to be run again whose service is [`unavailable`]. Failures of other kinds stay as they are.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        match self {
            Self::Unavailable { downstream, .. } => Self::Unavailable { downstream, after: Some(wait) },
            other => other,
        }
    }

    /// Whether the job becomes a dead letter at once.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        matches!(self, Self::Permanent { .. })
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

// `Failure` itself doesn't implement `Error`: this conversion, which makes `?` work on every error, could not exist beside
// it.
impl<E: Error> From<E> for Failure {
    fn from(error: E) -> Self {
        transient(with_causes(&error))
    }
}

impl<T, E: Error> OrFail<T> for std::result::Result<T, E> {
    fn or_permanent(self, doing: impl Display) -> Result<T> {
        self.map_err(|error| permanent(format_args!("{doing}: {}", with_causes(&error))))
    }

    fn or_transient(self, doing: impl Display) -> Result<T> {
        self.map_err(|error| transient(format_args!("{doing}: {}", with_causes(&error))))
    }

    fn or_retry_after(self, wait: Duration, doing: impl Display) -> Result<T> {
        self.map_err(|error| retry_after(wait, format_args!("{doing}: {}", with_causes(&error))))
    }
}

impl<T> OrFail<T> for Option<T> {
    fn or_permanent(self, doing: impl Display) -> Result<T> {
        self.ok_or_else(|| permanent(doing))
    }

    fn or_transient(self, doing: impl Display) -> Result<T> {
        self.ok_or_else(|| transient(doing))
    }

    fn or_retry_after(self, wait: Duration, doing: impl Display) -> Result<T> {
        self.ok_or_else(|| retry_after(wait, doing))
    }
}

impl<T> OrFailIo<T> for io::Result<T> {
    fn or_fail_io(self, doing: impl Display) -> Result<T> {
        self.map_err(|error| {
            let text = with_causes(&error);
            if may_be_ungranted(&error) {
                permanent(format_args!("{doing}: {text}; is its folder granted, by `dirs` in [grants]?"))
            } else if is_lasting(error.kind()) {
                permanent(format_args!("{doing}: {text}"))
            } else {
                transient(format_args!("{doing}: {text}"))
            }
        })
    }
}

/// Whether an error may come from a path that isn't granted. A sandbox knows only the granted folders. By the standard
/// library it was built with, a path outside them is not found, or "capabilities insufficient", or an error without a
/// number; one that climbs out of a granted folder isn't permitted.
fn may_be_ungranted(error: &io::Error) -> bool {
    const CAPABILITIES_INSUFFICIENT: i32 = 76;
    let refused = match error.raw_os_error() {
        Some(CAPABILITIES_INSUFFICIENT) => true,
        Some(_) => matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied),
        None => !is_lasting(error.kind()),
    };
    cfg!(target_os = "wasi") && refused
}

fn is_lasting(kind: io::ErrorKind) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        kind,
        Kind::NotFound
            | Kind::PermissionDenied
            | Kind::ReadOnlyFilesystem
            | Kind::IsADirectory
            | Kind::NotADirectory
            | Kind::DirectoryNotEmpty
            | Kind::AlreadyExists
            | Kind::InvalidInput
            | Kind::InvalidData
            | Kind::UnexpectedEof
            | Kind::Unsupported
    )
}

fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    text.truncate(text.trim_end().len());
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        let more = more.trim_end();
        // Some errors print their cause themselves; once is enough.
        if !text.ends_with(more) {
            text.push_str(": ");
            text.push_str(more);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("load the list")]
    struct Outer(#[source] Inner);

    #[derive(Debug, thiserror::Error)]
    #[error("connection reset")]
    struct Inner;

    #[test]
    fn a_standard_error_is_transient_and_tells_its_causes() {
        let failing = || -> Result<()> { Err(Outer(Inner))? };
        assert_eq!(failing(), Err(transient("load the list: connection reset")));
    }

    #[test]
    fn a_cause_that_its_error_prints_is_told_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("load: {0}")]
        struct Telling(#[source] Inner);
        assert_eq!(Failure::from(Telling(Inner)).message(), "load: connection reset");
    }

    #[test]
    fn the_handler_decides_what_a_failure_means() {
        let wait = Duration::from_secs(3);
        let failed = || std::result::Result::<(), _>::Err(Inner);
        assert_eq!(failed().or_permanent("sync"), Err(permanent("sync: connection reset")));
        assert_eq!(failed().or_transient("sync"), Err(transient("sync: connection reset")));
        assert_eq!(failed().or_retry_after(wait, "sync"), Err(retry_after(wait, "sync: connection reset")));
        assert_eq!(None::<()>.or_permanent("no rows"), Err(permanent("no rows")));
        assert_eq!(Some(1).or_permanent("no rows"), Ok(1));
    }

    #[test]
    fn an_io_error_is_permanent_if_it_will_be_the_same_the_next_time() {
        let fail = |kind| Err::<(), _>(io::Error::from(kind)).or_fail_io("read /in/a");
        for lasting in [io::ErrorKind::NotFound, io::ErrorKind::PermissionDenied, io::ErrorKind::InvalidData]
        {
            assert!(fail(lasting).is_err_and(|failure| failure.is_permanent()), "{lasting}");
        }
        assert_eq!(fail(io::ErrorKind::TimedOut), Err(transient("read /in/a: timed out")));
    }
}
