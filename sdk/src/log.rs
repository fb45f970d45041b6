//! Structured log lines: `info!(ctx, "resized {path}", width = 320);`.

/// Severity of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Every step, for people who follow the code.
    Trace,
    /// Detail that helps to find a fault.
    Debug,
    /// Ordinary event.
    Info,
    /// Something that shouldn't be so, though the job goes on.
    Warn,
    /// Failure of the job.
    Error,
}

/// Writes a log line of any [`Level`]: `log!(ctx, Level::Info, "read {path}", bytes = n)`.
///
/// The message may name variables in braces; fields follow as `name = value`, where the value is anything that can be
/// displayed. Lines are kept with the job; put no secret in them.
#[macro_export]
macro_rules! log {
    ($ctx:expr, $level:expr, $message:literal $(, $field:ident = $value:expr)* $(,)?) => {
        $ctx.log(
            $level,
            &::std::format!($message),
            &[$((::core::stringify!($field), &$value as &dyn ::core::fmt::Display)),*],
        )
    };
}

/// Writes a [`log!`] line at level `Trace`: every step.
#[macro_export]
macro_rules! trace {
    ($ctx:expr, $($line:tt)+) => { $crate::log!($ctx, $crate::Level::Trace, $($line)+) };
}

/// Writes a [`log!`] line at level `Debug`: detail that helps to find a fault.
#[macro_export]
macro_rules! debug {
    ($ctx:expr, $($line:tt)+) => { $crate::log!($ctx, $crate::Level::Debug, $($line)+) };
}

/// Writes a [`log!`] line at level `Info`: an ordinary event.
#[macro_export]
macro_rules! info {
    ($ctx:expr, $($line:tt)+) => { $crate::log!($ctx, $crate::Level::Info, $($line)+) };
}

/// Writes a [`log!`] line at level `Warn`: something that shouldn't be so, though the job goes on.
#[macro_export]
macro_rules! warn {
    ($ctx:expr, $($line:tt)+) => { $crate::log!($ctx, $crate::Level::Warn, $($line)+) };
}

/// Writes a [`log!`] line at level `Error`: what made the job fail.
#[macro_export]
macro_rules! error {
    ($ctx:expr, $($line:tt)+) => { $crate::log!($ctx, $crate::Level::Error, $($line)+) };
}

#[cfg(test)]
mod tests {
    use crate::{FakeHost, Level, LogLine};

    #[test]
    fn a_line_has_a_message_and_fields() {
        let path = "/in/cat.jpg";
        let run = FakeHost::new().run(|ctx| {
            info!(ctx, "resized {path}", width = 320, format = "jpeg");
            warn!(ctx, "plain");
            Ok(())
        });
        let line = LogLine {
            level: Level::Info,
            message: "resized /in/cat.jpg".into(),
            fields: vec![("width".into(), "320".into()), ("format".into(), "jpeg".into())],
        };
        assert_eq!(run.logs[0], line);
        assert_eq!(run.logs[1], LogLine { level: Level::Warn, message: "plain".into(), fields: vec![] });
    }
}
