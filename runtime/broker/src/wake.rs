//! News of work, by push.

use sandhog_core::id::TenantId;
use tokio::sync::mpsc;

/// News of work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wake {
    /// A queue of this tenant that was empty isn't any more.
    Ready(TenantId),
    /// Something may have been missed, say while a connection was down: ask for every tenant.
    All,
}

/// A stream of [`Wake`]s. It ends when the broker is closed. A wake is a hint: whoever gets one asks for leases and
/// may get none.
#[derive(Debug)]
pub struct Wakes {
    receiver: mpsc::Receiver<Wake>,
}

impl Wakes {
    /// Wakes held for a slow listener. Beyond that, [`Wake::All`] stands for the ones that didn't fit.
    const BUFFER: usize = 1024;

    /// A stream, and the end that feeds it.
    #[must_use]
    pub(crate) fn channel() -> (mpsc::Sender<Wake>, Self) {
        let (sender, receiver) = mpsc::channel(Self::BUFFER);
        (sender, Self { receiver })
    }

    /// The next wake; none when the broker is closed.
    pub async fn next(&mut self) -> Option<Wake> {
        self.receiver.recv().await
    }
}
