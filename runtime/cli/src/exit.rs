//! Exit codes and failures of commands.

use std::fmt;
use std::io;
use std::process::ExitCode;

use sandhog_api::{ClientError, Problem, Slug};
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
    /// The command failed; the text on standard error says why and what to do.
    Failed = 1,
    /// A job that was waited for is dead, or would be buried at once.
    Dead = 3,
    /// A job that was waited for was cancelled.
    Cancelled = 4,
    /// The job doesn't exist.
    NotFound = 5,
    /// The wait took longer than `--timeout`.
    TimedOut = 6,
    /// The configuration is wrong.
    Config = 64,
}

/// The meanings of the codes, as `--help` shows them. Code 2 is that of a wrong command line.
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
    /// Returns the code for the state of a job that was waited for.
    #[must_use]
    pub fn of_state(state: State) -> Self {
        match state {
            State::Succeeded | State::Blocked | State::Scheduled | State::Ready | State::Leased => Self::Ok,
            State::Dead => Self::Dead,
            State::Cancelled => Self::Cancelled,
        }
    }

    /// Returns the code for the outcome of a single run: whether the job would be tried again, or buried.
    #[must_use]
    pub fn of_outcome(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Returned { .. } => Self::Ok,
            Outcome::FailedPermanently { .. } => Self::Dead,
            Outcome::Exceeded { limit, .. } if limit.is_deterministic() => Self::Dead,
            Outcome::FailedTransiently { .. }
            | Outcome::PutOff { .. }
            | Outcome::Trapped { .. }
            | Outcome::Exceeded { .. }
            | Outcome::Aborted(_)
            | Outcome::HostFault { .. } => Self::Failed,
        }
    }

    /// Returns the worse of two codes: of several jobs, that of the one which fared worst.
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

/// Error of a command.
#[derive(Debug)]
pub struct Failure {
    /// The message: what was being done, to what, and what went wrong.
    pub message: String,
    /// Suggestions of what to do about it, one line each.
    pub help: Vec<String>,
    /// The exit code.
    pub exit: Exit,
    form: Form,
}

/// The form of a failure's message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// One line.
    Line,
    /// Several errors, each marked as one already.
    List,
    /// Nothing to be read.
    Silence,
}

impl Failure {
    /// Creates a failure with the usual exit code, 1.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), help: Vec::new(), exit: Exit::Failed, form: Form::Line }
    }

    /// Creates a failure of several errors, each of them with `error: ` at the start of a line.
    pub(crate) fn list(message: impl Into<String>) -> Self {
        Self { form: Form::List, ..Self::new(message) }
    }

    /// Creates the silent end of a command whose reader has read enough. It is no error.
    pub(crate) fn nobody_reads() -> Self {
        Self { form: Form::Silence, exit: Exit::Ok, ..Self::new("") }
    }

    /// Adds a suggestion of what to do.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }

    /// Replaces the message.
    pub(crate) fn says(mut self, message: String) -> Self {
        self.message = message;
        self
    }

    /// Adds the place of the error before the message.
    pub(crate) fn at(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// Sets another exit code.
    pub(crate) fn exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// Combines two failures into one.
    pub(crate) fn and(self, other: Self) -> Self {
        let exit = self.exit.and(other.exit);
        let texts = [self, other].map(|failure| failure.report(Paint::Plain).unwrap_or_default());
        Self::list(texts.join("\n\n")).exit(exit)
    }

    /// Creates the failure of a system call on a file.
    pub(crate) fn io(what: impl fmt::Display, cause: &io::Error) -> Self {
        Self::new(format!("can't {what}: {cause}"))
    }
}

impl Failure {
    /// Returns the text for standard error, or `None` if there is nothing to say.
    #[must_use]
    pub fn report(&self, paint: Paint) -> Option<String> {
        let error = paint.red("error:");
        // Parts of it may come from a guest or a component.
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
            Slug::UnknownJob | Slug::UnknownSchedule | Slug::UnknownBreaker => Exit::NotFound,
            Slug::WrongConfiguration => Exit::Config,
            _ => Exit::Failed,
        };
        let failure = Self { help: problem.help, exit, ..Self::new(problem.detail) };
        match problem.slug {
            Slug::Unauthenticated => failure.help("show a token: --token @FILE, or SANDHOG_TOKEN"),
            _ => failure,
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Problem::from(error).into()
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
