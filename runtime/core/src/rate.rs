//! Rate limits: so many within a time, by the generic cell rate algorithm (GCRA).
//!
//! The state of a limit is one time: when it would be as good as new. Each token that is taken puts that time off by the
//! interval between two tokens, and a token may be taken as long as it isn't further ahead than the burst allows. So there is no
//! window at whose edge twice as much passes, and when the next token is there is known exactly.
//!
//! Times are whole microseconds of the broker's clock, and the interval is rounded up: a limit lets through a little less
//! than it says rather than a little more.

use std::fmt;
use std::num::NonZeroU32;

use crate::id::{PluginName, RateName};

/// Rate at which tokens come, and how many may be taken at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Time between two tokens, in microseconds.
    interval: u64,
    burst: NonZeroU32,
}

/// State of a rate limit: the time at which all its tokens are there again, in microseconds since 1970. The default is that
/// of one from which nothing was taken yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct FullAt(pub u64);

/// Limit on the number of jobs that are leased within a time under one name, by all daemons together.
///
/// Each lease takes a token, whether or not its job was leased before; what becomes of it gives none back. The broker's clock
/// says when there are more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimit {
    /// The kinds that share the limit.
    pub of: RateOf,
    /// The rate.
    pub rate: Rate,
}

/// Kinds that share a rate limit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum RateOf {
    /// The kinds of one plugin.
    Plugin(PluginName),
    /// The kinds of all plugins that name this limit.
    Named(RateName),
}

impl RateOf {
    /// Returns the limit that stores know by this name, or `None` if there is no such limit.
    #[must_use]
    pub fn from_key(key: &str) -> Option<Self> {
        match key.split_once(':')? {
            ("plugin", name) => PluginName::parse(name).ok().map(Self::Plugin),
            ("named", name) => RateName::parse(name).ok().map(Self::Named),
            _ => None,
        }
    }

    /// Returns the name by which stores know it, which no other limit of the tenant has.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::Plugin(plugin) => format!("plugin:{plugin}"),
            Self::Named(name) => format!("named:{name}"),
        }
    }
}

impl fmt::Display for RateOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plugin(plugin) => plugin.fmt(f),
            Self::Named(name) => name.fmt(f),
        }
    }
}

impl Rate {
    /// Maximum number of tokens within a second. The interval between two is so long that its rounding takes no more than a
    /// hundredth off a rate.
    pub const PER_SECOND_MAX: u32 = 10_000;

    /// Maximum time within which a number of tokens comes, in microseconds: 31 days.
    pub const PERIOD_MAX: u64 = 31 * 24 * 60 * 60 * 1_000_000;

    /// Part of a second within which as many tokens as come may be taken at once, where no burst is named.
    const BURST_PART: u64 = 10;

    /// Creates a rate of `count` tokens within `period` microseconds, of which `burst` may be taken at once; `None` for as many
    /// as come within a tenth of a second, and at least one. Returns `None` if the rate is over [`Self::PER_SECOND_MAX`], or the
    /// period is zero or over [`Self::PERIOD_MAX`].
    #[must_use]
    pub fn new(count: NonZeroU32, period: u64, burst: Option<NonZeroU32>) -> Option<Self> {
        let interval = period.div_ceil(u64::from(count.get()));
        let most = u64::from(Self::PER_SECOND_MAX).saturating_mul(period);
        if period > Self::PERIOD_MAX || period == 0 || u64::from(count.get()) * 1_000_000 > most {
            return None;
        }
        let usual = u32::try_from(1_000_000 / Self::BURST_PART / interval).ok().and_then(NonZeroU32::new);
        Some(Self { interval, burst: burst.or(usual).unwrap_or(NonZeroU32::MIN) })
    }

    /// Returns the time between two tokens, in microseconds.
    #[must_use]
    pub fn interval(self) -> u64 {
        self.interval
    }

    /// Returns the number of tokens that may be taken at once.
    #[must_use]
    pub fn burst(self) -> NonZeroU32 {
        self.burst
    }

    /// Returns the time that it takes until as many tokens are there as may be taken at once, in microseconds.
    fn span(self) -> u64 {
        self.interval.saturating_mul(self.burst.get().into())
    }

    /// Returns the time until all tokens are there, in microseconds. A state that a slower rate has left counts as one from which
    /// all that may be is taken.
    fn ahead(self, full_at: FullAt, now: u64) -> u64 {
        full_at.0.saturating_sub(now).min(self.span())
    }

    /// Returns the number of tokens that may be taken at the time `now`, in microseconds since 1970.
    #[must_use]
    pub fn left(self, full_at: FullAt, now: u64) -> u32 {
        let left = (self.span() - self.ahead(full_at, now)) / self.interval;
        u32::try_from(left).unwrap_or(u32::MAX)
    }

    /// Returns the state after `count` tokens are taken at the time `now`; no more may be taken than are [left](Self::left).
    #[must_use]
    pub fn taken(self, full_at: FullAt, count: u32, now: u64) -> FullAt {
        let from = now.saturating_add(self.ahead(full_at, now));
        FullAt(from.saturating_add(self.interval.saturating_mul(count.into())))
    }

    /// Returns the state in which this rate goes on from one that was found at the time `now`: what a slower rate has left counts
    /// as if all that may be were taken just now.
    #[must_use]
    pub fn adopted(self, full_at: FullAt, now: u64) -> FullAt {
        full_at.min(FullAt(now.saturating_add(self.span())))
    }

    /// Returns the time from `now` until `count` tokens may be taken, in microseconds; no more than the burst ever are.
    #[must_use]
    pub fn wait(self, full_at: FullAt, count: u32, now: u64) -> u64 {
        let needed = self.interval.saturating_mul(count.min(self.burst.get()).into());
        self.ahead(full_at, now).saturating_sub(self.span() - needed)
    }

    /// Returns the number of tokens for whose coming it is worth to wait, where none is left: half of the burst, so that not each
    /// is asked for by itself.
    #[must_use]
    pub fn batch(self) -> u32 {
        self.burst.get().div_ceil(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rate(count: u32, period: u64, burst: u32) -> Rate {
        Rate::new(not_zero(count), period, NonZeroU32::new(burst)).expect("a valid rate")
    }

    fn not_zero(n: u32) -> NonZeroU32 {
        NonZeroU32::new(n).expect("not zero")
    }

    fn rates() -> impl Strategy<Value = (u32, u64, u32, Rate)> {
        (1..=10_000u32, 1_000_000..=Rate::PERIOD_MAX, 1..=200u32)
            .prop_map(|(count, period, burst)| (count, period, burst, rate(count, period, burst)))
    }

    #[test]
    fn a_hundred_a_second_for_ten_seconds_are_a_thousand() {
        let rate = Rate::new(not_zero(100), 1_000_000, None).expect("a valid rate");
        assert_eq!((rate.interval(), rate.burst().get()), (10_000, 10));
        let (mut full_at, mut taken) = (FullAt::default(), 0);
        for millis in 0..10_000 {
            let now = 1_795_543_200_000_000 + millis * 1_000;
            let left = rate.left(full_at, now);
            full_at = rate.taken(full_at, left, now);
            taken += left;
        }
        assert_eq!(taken, 1_009);
    }

    #[test]
    fn a_limit_is_known_by_its_key() {
        let plugin = RateOf::Plugin("stripe".parse().expect("valid"));
        let named = RateOf::Named("stripe".parse().expect("valid"));
        for of in [plugin, named] {
            assert_eq!(RateOf::from_key(&of.key()), Some(of));
        }
        for key in ["", "stripe", "queue:stripe", "named:"] {
            assert_eq!(RateOf::from_key(key), None, "{key}");
        }
    }

    #[test]
    fn a_rate_that_can_not_be_kept_to_is_none() {
        assert_eq!(Rate::new(not_zero(10_001), 1_000_000, None), None);
        assert_eq!(Rate::new(not_zero(1), 0, None), None);
        assert_eq!(Rate::new(not_zero(1), Rate::PERIOD_MAX + 1, None), None);
        assert_eq!(Rate::new(not_zero(1), Rate::PERIOD_MAX, None).map(|rate| rate.burst().get()), Some(1));
    }

    proptest! {
        #[test]
        fn no_more_pass_than_the_burst_and_what_comes_meanwhile(
            (count, period, burst, rate) in rates(), waits in prop::collection::vec((0..3u8, 0..1u64 << 40, 0..300u32), 1..200),
        ) {
            let (start, mut now, mut full_at, mut taken) = (1u64 << 50, 1u64 << 50, FullAt::default(), 0u64);
            for (how, wait, wanted) in waits {
                // Often exactly until the next token is there.
                now += if how == 0 { rate.wait(full_at, 1, now) } else { wait % (period * 2) };
                let some = wanted.min(rate.left(full_at, now));
                full_at = rate.taken(full_at, some, now);
                taken += u64::from(some);
                let most = u128::from(burst) + u128::from(now - start) * u128::from(count) / u128::from(period);
                prop_assert!(u128::from(taken) <= most, "{} of {}", taken, most);
            }
        }

        #[test]
        fn the_wait_is_exact((_, _, burst, rate) in rates(), taken in 1..200u32, count in 1..200u32) {
            let now = 1u64 << 50;
            let full_at = rate.taken(FullAt::default(), taken.min(burst), now);
            let (wait, wanted) = (rate.wait(full_at, count, now), count.min(burst));
            prop_assert!(rate.left(full_at, now + wait) >= wanted);
            prop_assert!(wait == 0 || rate.left(full_at, now + wait - 1) < wanted);
        }

        #[test]
        fn a_faster_rate_does_not_wait_for_what_a_slower_one_has_taken((_, _, burst, rate) in rates(), far: u64) {
            let now = 1u64 << 50;
            prop_assert!(rate.wait(FullAt(far), 1, now) <= rate.interval());
            prop_assert!(rate.wait(FullAt(far), burst, now) <= rate.interval() * u64::from(burst));
            let adopted = rate.adopted(FullAt(far), now);
            prop_assert_eq!(rate.left(adopted, now), rate.left(FullAt(far), now));
            prop_assert!(rate.left(adopted, now + rate.interval() * u64::from(burst)) == burst);
        }

        #[test]
        fn who_takes_all_that_comes_gets_what_the_rate_says(count in 1..=10_000u32, seconds in 1..20u64) {
            let rate = Rate::new(not_zero(count), 1_000_000, None).expect("a valid rate");
            let (start, mut full_at, mut taken) = (1u64 << 50, FullAt::default(), 0u64);
            for millis in 0..seconds * 1_000 {
                let now = start + millis * 1_000;
                let left = rate.left(full_at, now);
                full_at = rate.taken(full_at, left, now);
                taken += u64::from(left);
            }
            let said = u64::from(count) * seconds;
            prop_assert!(taken <= said + u64::from(rate.burst().get()));
            // Each interval is rounded up by less than a microsecond, and clocks tick by the millisecond.
            prop_assert!(taken * 100 + 200 >= said * 99, "{} of {}", taken, said);
        }
    }
}
