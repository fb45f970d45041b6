//! Transitions of jobs: what each step makes of a job's place, counts and reason.
//!
//! Stores do as these functions say, and decide nothing of it by themselves. (The functions in Redis implement these rules
//! a second time; random comparison with the model holds both to each other.)
//!
//! A job that is to become ready may first have to wait for its turn, [blocked](State::Blocked): see [`crate::group`].
//!
//! ```text
//! blocked ─────┬────────── Waits ──────────┐
//!     │        v                           │ retry, release, taken back
//!     │  scheduled ──> ready ──lease──> leased
//!     │     │           │  ^               │ succeed, bury, cancel, lost too often
//!     └─────┴──cancel───┤  └──redrive── dead  v
//!                       └────────────────> Ends ──remove, keep time──> gone
//! ```

use std::borrow::Cow;
use std::time::Duration;

use crate::account::RunEnd;
use crate::attempt::SettleReply;
use crate::group::message_of_rest;
use crate::id::{JobId, LeaseNo};
use crate::job::State;
use crate::reason::Reason;
use crate::settle::Settlement;

/// Facts about a job that decide what may become of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// State of the job.
    pub state: State,
    /// Number of the latest lease; 0 before the first.
    pub lease: LeaseNo,
    /// Counts of attempts, expiries and faults.
    pub counts: JobCounts,
    /// Whether somebody wants the job cancelled, while it is leased.
    pub cancel_requested: bool,
}

/// Counts of a job's attempts, expiries and faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JobCounts {
    /// Number of attempts that counted.
    pub attempts: u32,
    /// Number of leases that expired since an attempt last ended.
    pub expiries: u32,
    /// Number of times since an attempt last ended that a daemon failed on the job.
    pub faults: u32,
}

/// Change of a job. After it, no lease of the job holds any more, and no request to cancel it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change<'a> {
    /// Place that the job goes to.
    pub next: Next,
    /// Number of the latest lease.
    pub lease: LeaseNo,
    /// Counts of attempts, expiries and faults.
    pub counts: JobCounts,
    /// Reason to record from now on; `None` leaves the one before.
    pub why: Option<Why<'a>>,
    /// Result of the handler, if the job succeeded.
    pub output: Option<&'a [u8]>,
    /// Whether the job's kind gets a lane of its own in its queue.
    pub makes_lane: bool,
}

/// Place that a job goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The job waits for others of its flow.
    Blocked,
    /// The job is scheduled for this long; if that is zero, it is ready at once, behind all others.
    Waits(Duration),
    /// The job is final, and kept for this long. Its unique key is free.
    Ends(State, Duration),
}

/// Reason why a job is in its state.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Why<'a> {
    /// Reason in a word; `None` where it is a matter of course.
    pub reason: Option<Reason>,
    /// Reason in full, for people.
    pub message: Option<Cow<'a, str>>,
}

/// Retention of final jobs, by age. After that they are removed by and by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// Time for which jobs that succeeded or were cancelled are kept.
    pub done: Duration,
    /// Time for which dead letters are kept.
    pub dead: Duration,
    /// Whether the job is counted among the final ones of the plugin that ran it, of which no more are kept than a number. One
    /// that ends without a run never is.
    pub is_counted: bool,
}

impl Default for Keep {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        Self { done: DAY, dead: DAY.saturating_mul(30), is_counted: false }
    }
}

impl Keep {
    /// Returns the place of a job that ends in this state.
    fn end(self, state: State) -> Next {
        Next::Ends(state, if state == State::Dead { self.dead } else { self.done })
    }
}

/// Retention of the final jobs of a tenant, or of a plugin, by number. The oldest are removed first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepMax {
    /// Maximum number of jobs that succeeded, and of those that were cancelled as many.
    pub done: u64,
    /// Maximum number of dead letters.
    pub dead: u64,
}

impl KeepMax {
    /// All jobs are kept, whatever their number.
    pub const ALL: Self = Self { done: u64::MAX, dead: u64::MAX };

    /// Returns the maximum number of jobs for each final state.
    #[must_use]
    pub fn by_state(&self) -> [(State, u64); 3] {
        [(State::Succeeded, self.done), (State::Cancelled, self.done), (State::Dead, self.dead)]
    }
}

impl Default for KeepMax {
    fn default() -> Self {
        Self { done: 1_000_000, dead: 1_000_000 }
    }
}

/// Action on a job other than running it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobAction {
    /// Cancels the job: at once if it waits; with the help of its holder, who is told, if it is leased.
    Cancel,
    /// Puts a dead letter back to ready, with its attempts, expiries and faults at zero.
    Redrive,
    /// Makes a scheduled job ready at once, and one that waits for others of its flow; a ready one stays as it is.
    RunNow,
    /// Removes a final job, with all that is kept of it.
    Remove,
}

impl JobAction {
    /// Whether the action makes any difference to a job in this state.
    #[must_use]
    pub fn changes(self, state: State) -> bool {
        let (lease, counts) = (LeaseNo(0), JobCounts::default());
        let standing = Standing { state, lease, counts, cancel_requested: false };
        !matches!(standing.acted(self), Acted::Nothing | Acted::Refuse)
    }
}

/// Effect of an action on a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acted {
    /// The job changes.
    Change(Change<'static>),
    /// The job changes if no other has its unique key by now: the key was free, and is taken again.
    Revive(Change<'static>),
    /// The job, which is blocked, changes if it waits for others of its flow; it isn't possible while it waits for its turn in its group.
    Release(Change<'static>),
    /// The job's holder is to be told that somebody wants it cancelled.
    AskHolder,
    /// The job is removed, with all that is kept of it.
    Remove,
    /// Nothing changes: the job is as the action would make it.
    Nothing,
    /// The action isn't possible in this state.
    Refuse,
}

impl<'a> Why<'a> {
    fn is(reason: Reason) -> Self {
        Self { reason: Some(reason), message: None }
    }

    fn told(reason: Reason, message: &'a str) -> Self {
        Self { reason: Some(reason), message: Some(message.into()) }
    }
}

/// Returns the message for people about a job that has lost more leases than `expiries_max`.
#[must_use]
pub fn too_many_expiries(expiries_max: u32) -> String {
    format!(
        "its daemons vanished more than {expiries_max} times while they held it; raise lease.expiries_max"
    )
}

impl JobCounts {
    /// Returns the counts with one more attempt that counted.
    fn tried(self) -> Self {
        Self { attempts: self.attempts.saturating_add(1), ..self }
    }

    /// Whether the job may kill its daemons: it goes before others, and is leased by few at a time.
    #[must_use]
    pub fn is_suspect(self) -> bool {
        self.expiries > 0
    }
}

impl Standing {
    /// Returns the answer to a token that settles nothing, whatever the settlement; `None` if the token's lease holds.
    ///
    /// The lease number is the fence, not the clock: an expired lease holds until it is taken back. Whatever else ends a
    /// lease raises its number; so if it is still the latest, it was this token that settled the job before.
    #[must_use]
    pub fn refusal(&self, lease: LeaseNo) -> Option<SettleReply> {
        match (self.lease == lease, self.state) {
            (true, State::Leased) => None,
            (true, _) => Some(SettleReply::Applied),
            (false, _) => Some(SettleReply::Lost),
        }
    }

    /// Returns the end of the job's run with this settlement, for the account.
    #[must_use]
    pub fn run_end(&self, settlement: &Settlement) -> RunEnd {
        let end = RunEnd::of(settlement);
        if self.cancel_requested { end.cancelled() } else { end }
    }

    /// Returns the change that a settlement makes to a job whose lease holds. A job that is to be cancelled gets no further
    /// attempt.
    #[must_use]
    pub fn settled<'a>(&self, settlement: &'a Settlement, keep: Keep) -> Change<'a> {
        let ends = |state| Change { why: Some(Why::default()), ..self.goes(keep.end(state)) };
        let waits = |after| self.goes(Next::Waits(after));
        match settlement {
            Settlement::Retry { .. } | Settlement::Release { .. } if self.cancel_requested => {
                self.cancelled(keep)
            }
            Settlement::Cancel => self.cancelled(keep),
            Settlement::Succeed { output, .. } => {
                Change { counts: self.counts.tried(), output: Some(output), ..ends(State::Succeeded) }
            }
            Settlement::Bury { reason, message } => Change {
                counts: self.counts.tried(),
                why: Some(Why::told(*reason, message)),
                ..ends(State::Dead)
            },
            // An attempt ended, so its host has lived through it.
            Settlement::Retry { after, reason, message } => Change {
                counts: JobCounts { expiries: 0, faults: 0, ..self.counts.tried() },
                why: Some(Why::told(*reason, message)),
                ..waits(*after)
            },
            Settlement::Release { after, reason } => {
                let faults = self.counts.faults.saturating_add(u32::from(reason.is_host_fault()));
                Change {
                    counts: JobCounts { faults, ..self.counts },
                    why: Some(Why::is(*reason)),
                    makes_lane: *reason == Reason::NoPlugin,
                    ..waits(*after)
                }
            }
        }
    }

    /// Returns the change of a job whose lease has expired. The job is buried if that was one more than `expiries_max`.
    #[must_use]
    pub fn taken_back(&self, expiries_max: u32) -> Change<'static> {
        let counts = JobCounts { expiries: self.counts.expiries.saturating_add(1), ..self.counts };
        let change = if counts.expiries > expiries_max {
            let message = Some(too_many_expiries(expiries_max).into());
            let why = Why { message, ..Why::is(Reason::LeaseExpired) };
            Change { why: Some(why), ..self.goes(Keep::default().end(State::Dead)) }
        } else if self.cancel_requested {
            self.cancelled(Keep::default())
        } else {
            self.made_ready()
        };
        Change { lease: self.lease.next(), counts, ..change }
    }

    /// Returns the change of a scheduled job whose time has come.
    #[must_use]
    pub fn made_ready(&self) -> Change<'static> {
        self.goes(Next::Waits(Duration::ZERO))
    }

    /// Returns the change of a waiting job that hasn't started within the time in which it had to.
    #[must_use]
    pub fn expired(&self) -> Change<'static> {
        Change { why: Some(Why::is(Reason::Expired)), ..self.cancelled(Keep::default()) }
    }

    /// Returns the effect of an action on the job.
    #[must_use]
    pub fn acted(&self, action: JobAction) -> Acted {
        match (action, self.state) {
            (JobAction::Cancel, State::Blocked | State::Scheduled | State::Ready) => {
                Acted::Change(self.cancelled(Keep::default()))
            }
            (JobAction::Cancel, State::Leased) => Acted::AskHolder,
            (JobAction::Redrive, State::Dead) => Acted::Revive(Change {
                counts: JobCounts::default(),
                why: Some(Why::default()),
                ..self.made_ready()
            }),
            (JobAction::RunNow, State::Blocked) => Acted::Release(self.made_ready()),
            (JobAction::RunNow, State::Scheduled) => Acted::Change(self.made_ready()),
            (JobAction::RunNow, State::Ready) => Acted::Nothing,
            (JobAction::Remove, state) if state.is_final() => Acted::Remove,
            (JobAction::Cancel | JobAction::Redrive | JobAction::RunNow | JobAction::Remove, _) => {
                Acted::Refuse
            }
        }
    }

    /// Returns the change of a blocked job that waits for nothing any more: it waits for `delay`, and is ready then.
    #[must_use]
    pub fn unblocked(&self, delay: Duration) -> Change<'static> {
        self.goes(Next::Waits(delay))
    }

    /// Returns the change of a blocked job that ends in this state as a parent of it ended badly. The message names the
    /// parent.
    #[must_use]
    pub fn failed_by_parent(&self, state: State, message: String) -> Change<'static> {
        let why = Why { message: Some(message.into()), ..Why::is(Reason::ParentFailed) };
        Change { why: Some(why), ..self.goes(Keep::default().end(state)) }
    }

    /// Returns the change of a job in its group's line that is cancelled as one died that it waited behind. The message names that
    /// one.
    #[must_use]
    pub fn cancelled_behind(&self, dead: JobId) -> Change<'static> {
        let why = Why { message: Some(message_of_rest(dead).into()), ..Why::is(Reason::GroupFailed) };
        Change { why: Some(why), ..self.cancelled(Keep::default()) }
    }

    fn cancelled(&self, keep: Keep) -> Change<'static> {
        Change { why: Some(Why::is(Reason::Cancelled)), ..self.goes(keep.end(State::Cancelled)) }
    }

    /// Returns a change of the job's place and of nothing else.
    pub(crate) fn goes(&self, next: Next) -> Change<'static> {
        Change { next, lease: self.lease, counts: self.counts, why: None, output: None, makes_lane: false }
    }
}

impl Change<'_> {
    /// Returns the change for a new job that waits for `delay`.
    #[must_use]
    pub fn of_new(delay: Duration) -> Change<'static> {
        let new = Standing {
            state: State::Scheduled,
            lease: LeaseNo(0),
            counts: JobCounts::default(),
            cancel_requested: false,
        };
        new.goes(Next::Waits(delay))
    }

    /// Returns the change for a new job that waits for others of its flow.
    #[must_use]
    pub fn of_new_blocked() -> Change<'static> {
        Self::of_new(Duration::ZERO).blocked()
    }

    /// Returns this change of a job that has to wait for others of its flow first.
    #[must_use]
    pub fn blocked(self) -> Self {
        Self { next: Next::Blocked, ..self }
    }

    /// Returns the state of the job after the change.
    #[must_use]
    pub fn state(&self) -> State {
        match self.next {
            Next::Blocked => State::Blocked,
            Next::Waits(Duration::ZERO) => State::Ready,
            Next::Waits(_) => State::Scheduled,
            Next::Ends(state, _) => state,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effects::Effects;
    use proptest::prelude::*;
    use proptest::sample::select;

    const ACTIONS: [JobAction; 4] =
        [JobAction::Cancel, JobAction::Redrive, JobAction::RunNow, JobAction::Remove];

    fn standings() -> impl Strategy<Value = Standing> {
        let count = || prop_oneof![0..4u32, Just(u32::MAX)];
        (select(&State::ALL[..]), 0..9u64, count(), count(), count(), any::<bool>()).prop_map(
            |(state, lease, attempts, expiries, faults, wish)| Standing {
                state,
                lease: LeaseNo(lease),
                counts: JobCounts { attempts, expiries, faults },
                cancel_requested: wish && state == State::Leased,
            },
        )
    }

    fn leased() -> impl Strategy<Value = Standing> {
        standings().prop_map(|standing| Standing { state: State::Leased, ..standing })
    }

    fn settlements() -> impl Strategy<Value = Settlement> {
        let (after, message) = ((0..3u64).prop_map(Duration::from_secs), || "why".to_owned());
        (0..5u8, after, select(Reason::ALL)).prop_map(move |(kind, after, reason)| match kind {
            0 => Settlement::Succeed { output: b"out".to_vec(), effects: Effects::default() },
            1 => Settlement::Retry { after, reason, message: message() },
            2 => Settlement::Release { after, reason },
            3 => Settlement::Bury { reason, message: message() },
            _ => Settlement::Cancel,
        })
    }

    fn after(change: &Change<'_>) -> Standing {
        let (state, lease, counts) = (change.state(), change.lease, change.counts);
        Standing { state, lease, counts, cancel_requested: false }
    }

    /// All that may become of a job, but by its redrive.
    fn changes(
        standing: &Standing,
        settlement: &Settlement,
        expiries_max: u32,
    ) -> Vec<(Standing, &'static str)> {
        let settled = after(&standing.settled(settlement, Keep::default()));
        let mut all = vec![(settled, "settled"), (after(&standing.taken_back(expiries_max)), "taken back")];
        all.push((after(&standing.made_ready()), "made ready"));
        all.extend(ACTIONS.iter().filter_map(|action| match standing.acted(*action) {
            Acted::Change(change) | Acted::Release(change) => Some((after(&change), "acted on")),
            Acted::Revive(_) | Acted::AskHolder | Acted::Remove | Acted::Nothing | Acted::Refuse => None,
        }));
        all
    }

    proptest! {
        #[test]
        fn what_is_final_stays_so_until_a_redrive_or_its_removal(standing in standings(), lease in 0..9u64) {
            prop_assume!(standing.state.is_final());
            prop_assert!(standing.refusal(LeaseNo(lease)).is_some());
            for action in ACTIONS {
                match standing.acted(action) {
                    Acted::Refuse => {}
                    Acted::Remove => prop_assert_eq!(action, JobAction::Remove),
                    Acted::Revive(change) => {
                        prop_assert_eq!((action, standing.state), (JobAction::Redrive, State::Dead));
                        prop_assert_eq!((change.state(), change.counts), (State::Ready, JobCounts::default()));
                    }
                    other => prop_assert!(false, "{action:?} of a final job: {other:?}"),
                }
            }
        }

        #[test]
        fn a_token_holds_for_the_latest_lease_alone(standing in standings(), lease in 0..9u64) {
            let holds = standing.refusal(LeaseNo(lease)).is_none();
            prop_assert_eq!(holds, standing.state == State::Leased && standing.lease.0 == lease);
        }

        #[test]
        fn who_has_settled_is_told_so_again_and_who_lost_its_lease_is_not(
            standing in leased(), settlement in settlements(), expiries_max in 0..4u32,
        ) {
            let settled = after(&standing.settled(&settlement, Keep::default()));
            prop_assert_eq!(settled.refusal(standing.lease), Some(SettleReply::Applied));
            let taken_back = after(&standing.taken_back(expiries_max));
            prop_assert_eq!(taken_back.refusal(standing.lease), Some(SettleReply::Lost));
        }

        #[test]
        fn neither_attempts_nor_lease_numbers_ever_go_down(
            standing in standings(), settlement in settlements(), expiries_max in 0..4u32,
        ) {
            for (later, how) in changes(&standing, &settlement, expiries_max) {
                prop_assert!(later.counts.attempts >= standing.counts.attempts, "{}", how);
                prop_assert!(later.lease >= standing.lease, "{}", how);
            }
        }

        #[test]
        fn who_is_to_be_cancelled_never_waits_again(
            standing in leased(), settlement in settlements(), expiries_max in 0..4u32,
        ) {
            let standing = Standing { cancel_requested: true, ..standing };
            prop_assert!(after(&standing.settled(&settlement, Keep::default())).state.is_final());
            prop_assert!(after(&standing.taken_back(expiries_max)).state.is_final());
        }

        #[test]
        fn a_run_is_counted_as_what_became_of_its_job(standing in leased(), settlement in settlements()) {
            let change = standing.settled(&settlement, Keep::default());
            let fits = match standing.run_end(&settlement) {
                RunEnd::Succeeded => change.state() == State::Succeeded,
                RunEnd::Dead => change.state() == State::Dead,
                RunEnd::Cancelled => change.state() == State::Cancelled,
                RunEnd::Retried | RunEnd::Released => matches!(change.next, Next::Waits(_)),
            };
            prop_assert!(fits, "{change:?}");
            prop_assert_eq!(change.output.is_some(), change.state() == State::Succeeded);
        }

        #[test]
        fn a_job_that_loses_one_lease_too_many_is_buried_and_no_sooner(
            standing in leased(), expiries_max in 0..5u32,
        ) {
            let change = standing.taken_back(expiries_max);
            let is_one_too_many = standing.counts.expiries >= expiries_max;
            prop_assert_eq!(change.state() == State::Dead, is_one_too_many);
            prop_assert!(change.counts.is_suspect());
        }
    }

    #[test]
    fn dead_letters_are_kept_for_a_time_of_their_own() {
        let keep = Keep { done: Duration::from_secs(1), dead: Duration::from_secs(2), ..Keep::default() };
        let kept = [State::Succeeded, State::Cancelled, State::Dead].map(|state| keep.end(state));
        let expected = [(State::Succeeded, 1), (State::Cancelled, 1), (State::Dead, 2)];
        assert_eq!(kept, expected.map(|(state, secs)| Next::Ends(state, Duration::from_secs(secs))));
    }
}
