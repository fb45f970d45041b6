//! Several quick jobs in one room, one after the other: what a tenant gets for one seat where others wait in line for
//! theirs. The next job starts when the one before it gives its room back, which is before it is settled.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::stream::{FuturesUnordered, StreamExt};
use sandhog_core::reason::Reason;

use crate::capacity::permits::Room;
use crate::lease::intake::NO_ROOM_REST;
use crate::lease::prefetch::PATIENCE;
use crate::run::runner::Runner;
use crate::run::worker::{Ticket, Workshop};
use crate::shutdown::Phase;

/// A job with room, and those that have the room after it.
pub(crate) struct Turn<P> {
    first: Ticket<P>,
    room: Room,
    rest: VecDeque<Ticket<P>>,
}

impl<P> Turn<P> {
    /// Creates a turn of one job.
    pub(crate) fn new(first: Ticket<P>, room: Room) -> Self {
        Self { first, room, rest: VecDeque::new() }
    }

    /// Adds a job that starts after those before it.
    pub(crate) fn push(&mut self, ticket: Ticket<P>) {
        self.rest.push_back(ticket);
    }
}

/// Sees the jobs of a turn through. If one runs longer than expected, those behind it go back, and others may have them at
/// once.
pub(crate) async fn take<R: Runner>(workshop: Arc<Workshop<R>>, turn: Turn<R::Plugin>) {
    let Turn { first, mut room, mut rest } = turn;
    if rest.is_empty() {
        return attempt(&workshop, first, room).await;
    }
    let mut freed = room.pass_on();
    let mut under_way = FuturesUnordered::new();
    under_way.push(attempt(&workshop, first, room));
    let mut draining = std::pin::pin!(workshop.phase.reached(Phase::Draining));
    let patience = || workshop.ambient.reached(Some(workshop.ambient.mono().after(PATIENCE)));
    let mut overdue = std::pin::pin!(patience());
    let refused = loop {
        tokio::select! {
            biased;
            () = &mut draining => break Some((Duration::ZERO, Reason::Drained)),
            () = &mut overdue => break Some((Duration::ZERO, Reason::NoRoom)),
            held = &mut freed => {
                let plugin = rest.front().and_then(Ticket::plugin);
                let room = held.ok().and_then(|held| held.room(plugin.map(|plugin| &**plugin)));
                let Some(mut room) = room else { break Some((NO_ROOM_REST, Reason::NoRoom)) };
                let Some(next) = rest.pop_front() else { break None };
                if !rest.is_empty() {
                    freed = room.pass_on();
                }
                under_way.push(attempt(&workshop, next, room));
                overdue.set(patience());
                if rest.is_empty() {
                    break None;
                }
            }
            Some(()) = under_way.next() => {}
        }
    };
    drop(freed);
    if let Some((after, reason)) = refused {
        rest.into_iter().for_each(|ticket| workshop.give_back(ticket, after, reason));
    }
    under_way.collect::<()>().await;
}

/// Sees one job through. A panic is the end of the attempt that it is in alone; its lease runs out.
async fn attempt<R: Runner>(workshop: &Arc<Workshop<R>>, ticket: Ticket<R::Plugin>, room: Room) {
    AssertUnwindSafe(Arc::clone(workshop).attempt(ticket, room)).catch_unwind().map(drop).await;
}
