//! How a command ends.

use std::fmt;
use std::io;
use std::process::ExitCode;

use sandhog_api::{Problem, Slug};
use sandhog_config::Problems;
use sandhog_core::job::State;
use sandhog_core::outcome::Outcome;
use sandhog_core::text;

use crate::output::Paint;

/// The exit codes, for scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done; where a job was waited for, it succeeded.
    Ok = 0,
    /// It failed; the text on standard error says why and what to do.
    Failed = 1,
    /// A job that was waited for is dead, or would be buried at once.
    Dead = 3,
    /// A job that was waited for was cancelled.
    Cancelled = 4,
    /// There is no such job.
    NotFound = 5,
    /// The wait took longer than `--timeout`.
    TimedOut = 6,
    /// The configuration is wrong.
    Config = 64,
}

/// What the codes mean, as `--help` shows it. Code 2 is that of a command line that is wrong.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
   0  done; with --wait: the job succeeded
   1  failed
   2  the command line is wrong
   3  the job is dead
   4  the job was cancelled
   5  there is no such job
   6  waiting took longer than --timeout
  64  the configuration is wrong";

impl Exit {
    /// That of a job which was waited for.
    #[must_use]
    pub fn of_state(state: State) -> Self {
        match state {
            State::Succeeded | State::Scheduled | State::Ready | State::Leased => Self::Ok,
            State::Dead => Self::Dead,
            State::Cancelled => Self::Cancelled,
        }
    }

    /// That of a single run: would the job be tried again, or buried?
    #[must_use]
    pub fn of_outcome(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Returned { .. } => Self::Ok,
            Outcome::FailedPermanently { .. } => Self::Dead,
            Outcome::Exceeded { limit, .. } if limit.is_deterministic() => Self::Dead,
            Outcome::FailedTransiently { .. }
            | Outcome::Trapped { .. }
            | Outcome::Exceeded { .. }
            | Outcome::Aborted(_)
            | Outcome::HostFault { .. } => Self::Failed,
        }
    }

    /// The worse of two: of several jobs, that of the one which fared worst.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let rank = |exit| match exit {
            Self::Ok => 0,
            Self::Cancelled => 1,
            Self::Dead => 2,
            Self::TimedOut => 3,
            Self::NotFound => 4,
            Self::Failed => 5,
            Self::Config => 6,
        };
        if rank(other) > rank(self) { other } else { self }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command didn't do what it was to do.
#[derive(Debug)]
pub struct Failure {
    /// What was being done, to what, and what went wrong.
    pub message: String,
    /// What to do about it, one line each.
    pub help: Vec<String>,
    /// How the command ends.
    pub exit: Exit,
    form: Form,
}

/// What the message of a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// One line.
    Line,
    /// Several errors, each marked as one already.
    List,
    /// Nothing that anybody would read.
    Silence,
}

impl Failure {
    /// A failure with the usual exit code.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), help: Vec::new(), exit: Exit::Failed, form: Form::Line }
    }

    /// Several errors, each of them with `error: ` at the start of a line.
    pub(crate) fn list(message: impl Into<String>) -> Self {
        Self { form: Form::List, ..Self::new(message) }
    }

    /// Whoever read our results has read enough: that ends the command, and is nobody's fault.
    pub(crate) fn nobody_reads() -> Self {
        Self { form: Form::Silence, exit: Exit::Ok, ..Self::new("") }
    }

    /// Says what to do.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }

    /// Says it in other words.
    pub(crate) fn says(mut self, message: String) -> Self {
        self.message = message;
        self
    }

    /// Says where it went wrong.
    pub(crate) fn at(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// Ends the command with another code.
    pub(crate) fn exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// Two failures as one.
    pub(crate) fn and(self, other: Self) -> Self {
        let exit = self.exit.and(other.exit);
        let texts = [self, other].map(|failure| failure.report(Paint::Plain).unwrap_or_default());
        Self::list(texts.join("\n\n")).exit(exit)
    }

    /// An error of the system while something was done to a file.
    pub(crate) fn io(what: impl fmt::Display, cause: &io::Error) -> Self {
        Self::new(format!("can't {what}: {cause}"))
    }
}

impl Failure {
    /// The text for standard error, if there is anything to say.
    #[must_use]
    pub fn report(&self, paint: Paint) -> Option<String> {
        let error = paint.red("error:");
        // Parts of it may be what a guest or a component has said.
        let message = text::block(&self.message);
        let text = match self.form {
            Form::Silence => return None,
            Form::Line => format!("{error} {message}"),
            Form::List => {
                let mark = |line: &str| match line.strip_prefix("error:") {
                    Some(rest) => format!("{error}{rest}"),
                    None => line.to_owned(),
                };
                message.lines().map(mark).collect::<Vec<_>>().join("\n")
            }
        };
        let help = self.help.iter().map(|help| format!("\n  = help: {}", text::block(help)));
        Some(text + &help.collect::<String>())
    }
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Self {
        Self::list(problems.to_string()).exit(Exit::Config)
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        let exit = match problem.slug {
            Slug::UnknownJob => Exit::NotFound,
            Slug::WrongConfiguration => Exit::Config,
            _ => Exit::Failed,
        };
        Self { help: problem.help, exit, ..Self::new(problem.detail) }
    }
}

impl From<sandhog_broker::Error> for Failure {
    fn from(error: sandhog_broker::Error) -> Self {
        let failure = Self::new(error.to_string());
        match error {
            sandhog_broker::Error::Unavailable { .. } => {
                failure.help("check that it runs and has room, and `[broker]` in the configuration")
            }
            sandhog_broker::Error::Full { remedy, .. } => failure.help(remedy),
            sandhog_broker::Error::Sealed { tenant, .. } => failure
                .help(format!("its keys are those of `[tenants.{tenant}.encryption]` in the configuration")),
            sandhog_broker::Error::Corrupt { .. }
            | sandhog_broker::Error::Unfit { .. }
            | sandhog_broker::Error::Bug { .. } => failure,
        }
    }
}

impl From<sandhog_engine::Error> for Failure {
    fn from(error: sandhog_engine::Error) -> Self {
        Self::new(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_documented() {
        for exit in [
            Exit::Ok,
            Exit::Failed,
            Exit::Dead,
            Exit::Cancelled,
            Exit::NotFound,
            Exit::TimedOut,
            Exit::Config,
        ] {
            let code = (exit as u8).to_string();
            assert!(
                EXIT_CODES.lines().any(|line| line.trim_start().starts_with(&format!("{code} "))),
                "{exit:?}"
            );
        }
    }

    #[test]
    fn several_failures_become_one_list() {
        let both = Failure::new("a").help("b").and(Failure::list("error: c\nd").exit(Exit::Config));
        assert_eq!(both.report(Paint::Plain).as_deref(), Some("error: a\n  = help: b\n\nerror: c\nd"));
        assert_eq!(both.exit, Exit::Config);
        assert_eq!(Failure::nobody_reads().report(Paint::Plain), None);
    }

    #[test]
    fn of_several_jobs_the_one_that_fared_worst_decides() {
        assert_eq!(Exit::Ok.and(Exit::Dead).and(Exit::Cancelled), Exit::Dead);
        assert_eq!(Exit::Ok.and(Exit::Ok), Exit::Ok);
    }
}
