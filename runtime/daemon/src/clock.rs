//! Clock and randomness, from one place, so that a simulation can supply both.

use std::sync::{Arc, Mutex, PoisonError};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sandhog_broker::{SystemClock, WallClock};
use sandhog_core::id::{DaemonId, JobId};
use sandhog_core::retry::Chance;
use sandhog_core::time::{Mono, Timestamp};
use tokio::time::Instant;

/// Source of time and chance. Clones share both.
#[derive(Clone)]
pub struct Clock {
    wall: Arc<dyn WallClock>,
    origin: Instant,
    random: Arc<Mutex<StdRng>>,
}

impl Clock {
    /// Creates a clock of this machine's time, and of chance that nobody can foresee.
    #[must_use]
    pub fn system() -> Self {
        Self::new(Arc::new(SystemClock), StdRng::from_rng(&mut rand::rng()))
    }

    /// Creates a clock of the given calendar time and source of chance. Monotonic time is tokio's, which a test can pause.
    #[must_use]
    pub fn new(wall: Arc<dyn WallClock>, random: StdRng) -> Self {
        Self { wall, origin: Instant::now(), random: Arc::new(Mutex::new(random)) }
    }

    /// Current calendar time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.wall.now()
    }

    /// Current monotonic time, counted from the clock's creation.
    #[must_use]
    pub fn mono(&self) -> Mono {
        Mono::from_origin(self.origin.elapsed())
    }

    /// Tokio's instant at which monotonic time is `at`.
    #[must_use]
    pub fn instant(&self, at: Mono) -> Instant {
        self.origin + at.since_origin()
    }

    /// Waits until monotonic time is `at`; for ever if it is `None`.
    pub(crate) async fn reached(&self, at: Option<Mono>) {
        match at {
            Some(at) => tokio::time::sleep_until(self.instant(at)).await,
            None => std::future::pending().await,
        }
    }

    /// Draws a random [`Chance`].
    #[must_use]
    pub fn chance(&self) -> Chance {
        Chance::from_bits(self.draw(|random| random.random()))
    }

    /// Makes the id of a new job.
    #[must_use]
    pub fn job_id(&self) -> JobId {
        JobId::from_parts(self.now(), self.draw(|random| random.random()))
    }

    /// Makes the id of a new daemon.
    #[must_use]
    pub fn daemon_id(&self) -> DaemonId {
        DaemonId::from_parts(self.now(), self.draw(|random| random.random()))
    }

    fn draw<T>(&self, draw: impl FnOnce(&mut StdRng) -> T) -> T {
        draw(&mut self.random.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
