//! What compiling a component may take: the narrowest of what the daemon, tenant and plugin allow.

use std::time::Duration;

use crate::budget::Bytes;

/// What compiling one component may take. It is spent once a component, not once a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompileBudget {
    /// The size of the component itself; a larger one isn't even begun.
    pub component: Bytes,
    /// On the wall clock.
    pub time: Duration,
    /// Memory of the compiler.
    pub memory: Bytes,
}

/// Enough for a component that brings the whole of Python with it: 20 MB, for which a compiler takes some 10 s of two
/// processors.
impl Default for CompileBudget {
    fn default() -> Self {
        Self { component: Bytes::mib(64), time: Duration::from_secs(120), memory: Bytes::mib(2048) }
    }
}

impl CompileBudget {
    /// What is left of this budget under further caps.
    #[must_use]
    pub fn narrow(self, caps: &CompileCaps) -> Self {
        Self {
            component: caps.component.map_or(self.component, |cap| cap.min(self.component)),
            time: caps.time.map_or(self.time, |cap| cap.min(self.time)),
            memory: caps.memory.map_or(self.memory, |cap| cap.min(self.memory)),
        }
    }
}

/// What one party allows at most; where it says nothing, it leaves the budget as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CompileCaps {
    /// See [`CompileBudget::component`].
    pub component: Option<Bytes>,
    /// See [`CompileBudget::time`].
    pub time: Option<Duration>,
    /// See [`CompileBudget::memory`].
    pub memory: Option<Bytes>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_narrowest_counts() {
        let daemon = CompileBudget::default();
        assert_eq!(daemon.narrow(&CompileCaps::default()), daemon);
        let caps = CompileCaps {
            component: Some(Bytes::mib(1)),
            time: Some(Duration::from_secs(3600)),
            memory: Some(Bytes::mib(100)),
        };
        let left = daemon.narrow(&caps);
        assert_eq!((left.component, left.time, left.memory), (Bytes::mib(1), daemon.time, Bytes::mib(100)));
    }
}
