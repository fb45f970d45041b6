//! Reasons why a job is in its state, with one slug each: the same in the API, logs, metrics and docs.

use std::fmt;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $slug:literal,)*) => {
        /// The reason behind a settlement that was no success.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason { $($(#[$doc])* $name,)* }

        impl Reason {
            /// Every reason there is.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The name in the API, logs, metrics and docs.
            #[must_use]
            pub fn slug(self) -> &'static str {
                match self { $(Self::$name => $slug,)* }
            }

            /// Returns the reason with this slug; `None` if there is no such reason.
            #[must_use]
            pub fn from_slug(slug: &str) -> Option<Self> {
                match slug { $($slug => Some(Self::$name),)* _ => None }
            }
        }
    };
}

reasons! {
    /// The handler failed in a way that may go away by itself.
    Failed = "failed",
    /// The handler said that trying again can't help.
    FailedPermanently = "failed-permanently",
    /// The guest trapped: a panic, an access out of bounds and the like.
    Trapped = "trapped",
    /// The guest recursed deeper than its stack.
    StackOverflow = "stack-overflow",
    /// The run used up its fuel.
    OutOfFuel = "out-of-fuel",
    /// The run wanted more memory than its budget has.
    OutOfMemory = "out-of-memory",
    /// The run wanted more table elements than its budget has.
    OutOfTable = "out-of-table",
    /// The output was larger than its budget.
    TooMuchOutput = "too-much-output",
    /// The run went on logging far past its log limit.
    TooMuchLog = "too-much-log",
    /// The run's effects were larger than its budget.
    TooManyEffects = "too-many-effects",
    /// The component is made of more core instances than its budget has.
    TooManyInstances = "too-many-instances",
    /// The run called the host more often in a second than its budget has.
    TooManyHostCalls = "too-many-host-calls",
    /// The run wanted to enqueue more jobs than its budget has.
    TooManyEnqueues = "too-many-enqueues",
    /// The run wanted to write more keys of its state than its budget has.
    TooManyStateWrites = "too-many-state-writes",
    /// The run wanted memory while all runs of its tenant together had none left.
    TenantOutOfMemory = "tenant-out-of-memory",
    /// The run took longer than its timeout.
    TimedOut = "timed-out",
    /// The daemon, not the guest, went wrong.
    HostFault = "host-fault",
    /// State that the run had compared changed before it settled.
    StateConflict = "state-conflict",
    /// The job's daemons kept vanishing while they held it.
    LeaseExpired = "lease-expired",
    /// No plugin of the tenant handles the job's kind.
    NoPlugin = "no-plugin",
    /// The revision that the job is pinned to is being loaded.
    Loading = "loading",
    /// The revision that the job is pinned to isn't kept any more.
    NoRevision = "no-revision",
    /// The payload is larger than the plugin's limit.
    PayloadTooLarge = "payload-too-large",
    /// Stored parts of the job are sealed, and can't be opened.
    Unreadable = "unreadable",
    /// The job's attempts were used up before it could start.
    AttemptsExhausted = "attempts-exhausted",
    /// The tenant had spent its fuel of the minute or day.
    OutOfBudget = "out-of-budget",
    /// The plugin may keep no more state.
    StateFull = "state-full",
    /// The run would have enqueued more than the tenant may have waiting.
    QueueFull = "queue-full",
    /// The plugin had no room for one more run.
    NoRoom = "no-room",
    /// The daemon shut down before the run was done.
    Drained = "drained",
    /// The handler put the job off: it was too early for it.
    Snoozed = "snoozed",
    /// The handler put the job off: what it calls took no more calls.
    RateLimited = "rate-limited",
    /// The handler put the job off: what it calls is unavailable.
    Unavailable = "unavailable",
    /// A job of its flow, which it comes after, ended badly.
    ParentFailed = "parent-failed",
    /// A job of its group, which it waited behind, died.
    GroupFailed = "group-failed",
    /// Somebody cancelled the job.
    Cancelled = "cancelled",
    /// The job hadn't started within the time in which it had to.
    Expired = "expired",
    /// The deadline of the job was over, or no further attempt could have begun before it.
    DeadlineExceeded = "deadline-exceeded",
}

impl Reason {
    /// Whether a job that is released for this reason counts a fault of its host, of which it may have a limited number.
    #[must_use]
    pub fn is_host_fault(self) -> bool {
        matches!(self, Self::HostFault | Self::Unreadable)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.slug())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slug_is_kebab_case_and_leads_back_to_its_reason() {
        for &reason in Reason::ALL {
            assert_eq!(Reason::from_slug(reason.slug()), Some(reason));
            assert!(reason.slug().bytes().all(|b| b.is_ascii_lowercase() || b == b'-'));
        }
        assert_eq!(Reason::from_slug("no-such-reason"), None);
    }
}
