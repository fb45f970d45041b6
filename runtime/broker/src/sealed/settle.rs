//! Settling with effects on state that the store can't read.
//!
//! Values that the store would compare or add to are read and opened here first. Then the store is told to expect the very
//! bytes that were read, and to replace them by others:
//!
//! ```text
//! expect "5"  ──> read, open: "5"?   yes: expect those bytes        no: expect what can't be there
//! add 1       ──> read, open, add:   expect those bytes, replace them by "6", sealed
//! ```
//!
//! So the answer is the store's own, and a stale token or a repetition is answered as ever. If another job has written the
//! value in between, the store answers with a conflict, and all of it is done again.
//!
//! A batch goes in as few calls as it can. A settlement that rests on what another of the batch writes waits for the call
//! after that, unless both do nothing but add. So does a second settlement of a job: the first may have to be sent again.

use std::collections::{HashMap, HashSet};

use futures::future::try_join_all;
use sandhog_core::attempt::SettleReply;
use sandhog_core::effects::{Effects, StateWrite, add};
use sandhog_core::id::{JobId, PluginName, StateKey};
use sandhog_core::settle::Settlement;

use super::envelope::{AssociatedData, Unopened};
use super::sealer::Sealer;
use crate::{Broker, Result, Settle};

/// Maximum number of times a settlement is sent whose state others have written meanwhile. In each round at least one of them
/// gets through, so that it takes as many daemons, all at the same key, to use them up.
const ROUNDS: usize = 64;

/// A value of state, both as it is stored and opened.
struct Stored {
    raw: Vec<u8>,
    plain: std::result::Result<Vec<u8>, Unopened>,
}

type States<'s> = HashMap<(&'s PluginName, &'s StateKey), Option<Stored>>;

/// The significance of a conflict in the answer to a settlement that was sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sent {
    /// All that it rests on held when it was read: a conflict means that another job was faster, and it is sent again.
    Hopeful,
    /// The answer stands, even if it is a conflict.
    Final,
}

/// Settles a batch, in order.
pub(super) async fn settle(
    behind: &dyn Broker,
    sealer: &Sealer<'_>,
    settlements: &[Settle],
) -> Result<Vec<SettleReply>> {
    let mut replies = Vec::with_capacity(settlements.len());
    let mut rest = settlements;
    while !rest.is_empty() {
        let (part, later) = rest.split_at(independent(rest).max(counters(rest)).min(of_different_jobs(rest)));
        replies.extend(settle_part(behind, sealer, part).await?);
        rest = later;
    }
    Ok(replies)
}

/// Returns how many settlements, from the first on, are of jobs that those before them are not of.
fn of_different_jobs(settlements: &[Settle]) -> usize {
    let mut jobs = HashSet::new();
    settlements.iter().take_while(|settle| jobs.insert(settle.token.job)).count()
}

/// Returns how many settlements, from the first on, rest on nothing that one before them writes.
fn independent(settlements: &[Settle]) -> usize {
    let mut written = HashSet::new();
    for (n, settle) in settlements.iter().enumerate() {
        let Some((plugin, effects)) = effects_of(settle) else { continue };
        if rests_on(effects).any(|key| written.contains(&(plugin, key))) {
            return n;
        }
        written.extend(effects.writes().map(|(key, _)| (plugin, key)));
    }
    settlements.len()
}

/// Returns how many settlements, from the first on, only add to state and enqueue nothing. The order in which those of different
/// jobs are settled makes no difference, so they may rest on each other in one call, and be sent again one by one.
fn counters(settlements: &[Settle]) -> usize {
    let only_adds = |settle: &&Settle| {
        effects_of(settle).is_none_or(|(_, effects)| {
            let adds = effects.writes().all(|(_, write)| matches!(write, StateWrite::Add(_)));
            adds && effects.expectations().len() == 0 && effects.jobs().is_empty()
        })
    };
    settlements.iter().take_while(only_adds).count()
}

/// Returns the effects of a run that succeeded, and the plugin whose state they are about.
fn effects_of(settle: &Settle) -> Option<(&PluginName, &Effects)> {
    settle.effects().map(|(ran, effects)| (&ran.plugin, effects))
}

/// Returns the keys whose stored values matter: those that are compared, and those that are added to.
fn rests_on(effects: &Effects) -> impl Iterator<Item = &StateKey> {
    let added = effects.writes().filter(|(_, write)| matches!(write, StateWrite::Add(_)));
    effects.expectations().map(|(key, _)| key).chain(added.map(|(key, _)| key))
}

async fn settle_part(behind: &dyn Broker, sealer: &Sealer<'_>, part: &[Settle]) -> Result<Vec<SettleReply>> {
    let mut replies = vec![SettleReply::Lost; part.len()];
    let mut open: Vec<usize> = (0..part.len()).collect();
    for _ in 0..ROUNDS {
        let mut states = read(behind, sealer, open.iter().map(|&n| &part[n])).await?;
        let faults = faults(behind, sealer, open.iter().map(|&n| &part[n]), &states).await?;
        // The values that earlier settlements lay over them aren't stored yet, and never will be if those are refused.
        let mut ahead = HashSet::new();
        let mut sealed = Vec::with_capacity(open.len());
        let mut sent = Vec::with_capacity(open.len());
        for &n in &open {
            let (settle, as_what) = seal(sealer, &part[n], &states, &faults)?;
            let rests_ahead = effects_of(&part[n])
                .is_some_and(|(plugin, effects)| rests_on(effects).any(|key| ahead.contains(&(plugin, key))));
            lay_over(&mut states, &mut ahead, sealer, &part[n], &settle);
            sealed.push(settle);
            sent.push(if rests_ahead { Sent::Hopeful } else { as_what });
        }
        let answers = behind.settle(sealer.tenant, &sealed).await?;
        let mut overtaken = Vec::new();
        for ((n, answer), sent) in open.into_iter().zip(answers).zip(sent) {
            if sent == Sent::Hopeful && matches!(answer, SettleReply::Conflict { .. }) {
                overtaken.push(n);
            }
            replies[n] = answer;
        }
        if overtaken.is_empty() {
            break;
        }
        open = overtaken;
    }
    Ok(replies)
}

/// Reads and opens all state on which these settlements rest.
async fn read<'s>(
    behind: &dyn Broker,
    sealer: &Sealer<'_>,
    settlements: impl Iterator<Item = &'s Settle>,
) -> Result<States<'s>> {
    let wanted: HashSet<(&PluginName, &StateKey)> = settlements
        .filter_map(effects_of)
        .flat_map(|(plugin, effects)| rests_on(effects).map(move |key| (plugin, key)))
        .collect();
    let reads = wanted.into_iter().map(|(plugin, key)| async move {
        let stored = behind.state(sealer.tenant, plugin, key).await?;
        let stored = stored.map(|raw| Stored { plain: sealer.open_state(plugin, key, raw.clone()), raw });
        Ok(((plugin, key), stored))
    });
    Ok(try_join_all(reads).await?.into_iter().collect())
}

/// Looks up the number of host faults of each job whose settlement rests on state that can't be opened.
async fn faults(
    behind: &dyn Broker,
    sealer: &Sealer<'_>,
    settlements: impl Iterator<Item = &Settle>,
    states: &States<'_>,
) -> Result<HashMap<JobId, u32>> {
    let is_unopened = |plugin, key| {
        states.get(&(plugin, key)).and_then(Option::as_ref).is_some_and(|stored| stored.plain.is_err())
    };
    let refused = settlements.filter(|settle| {
        effects_of(settle)
            .is_some_and(|(plugin, effects)| rests_on(effects).any(|key| is_unopened(plugin, key)))
    });
    let looks = refused.map(|settle| async move {
        let job = settle.token.job;
        let record = behind.job(sealer.tenant, job).await?;
        Ok((job, record.map_or(0, |record| record.faults)))
    });
    Ok(try_join_all(looks).await?.into_iter().collect())
}

/// Replaces, for the settlements after it, the states to which a settlement adds by what it makes of them.
fn lay_over<'s>(
    states: &mut States<'s>,
    ahead: &mut HashSet<(&'s PluginName, &'s StateKey)>,
    sealer: &Sealer<'_>,
    settle: &'s Settle,
    sealed: &Settle,
) {
    let (Some((plugin, plain)), Some((_, sealed))) = (effects_of(settle), effects_of(sealed)) else { return };
    for ((key, wanted), (_, written)) in plain.writes().zip(sealed.writes()) {
        if let (StateWrite::Add(_), StateWrite::Replace(raw)) = (wanted, written) {
            let plain = sealer.open_state(plugin, key, raw.clone());
            states.insert((plugin, key), Some(Stored { raw: raw.clone(), plain }));
            ahead.insert((plugin, key));
        }
    }
}

fn seal(
    sealer: &Sealer<'_>,
    settle: &Settle,
    states: &States<'_>,
    faults: &HashMap<JobId, u32>,
) -> Result<(Settle, Sent)> {
    let job = settle.token.job;
    let (settlement, sent) = match &settle.settlement {
        Settlement::Succeed { output, .. } => {
            let (effects, sent) = match effects_of(settle) {
                None => (Effects::default(), Sent::Final),
                Some((plugin, effects)) => match seal_effects(sealer, plugin, effects, states)? {
                    Ok(sealed) => sealed,
                    Err((key, why)) => {
                        let place = AssociatedData::State { plugin, key };
                        let faults = faults.get(&job).copied().unwrap_or_default();
                        return Ok((sealer.refusal(settle.token, faults, place, why), Sent::Final));
                    }
                },
            };
            let output = sealer.seal(AssociatedData::Output { job }, output)?;
            (Settlement::Succeed { output, effects }, sent)
        }
        Settlement::Retry { after, reason, message } => {
            let message = sealer.message(job, message)?;
            (Settlement::Retry { after: *after, reason: *reason, message }, Sent::Final)
        }
        Settlement::Bury { reason, message } => {
            (Settlement::Bury { reason: *reason, message: sealer.message(job, message)? }, Sent::Final)
        }
        other @ (Settlement::Release { .. } | Settlement::Cancel) => (other.clone(), Sent::Final),
    };
    let sealed = Settle {
        token: settle.token,
        ran: settle.ran.clone(),
        settlement,
        brief: settle
            .why_in_brief()
            .and_then(|(_, brief)| brief)
            .map(|brief| sealer.brief(settle.token, brief))
            .transpose()?,
        progress: sealer.progress(job, settle.progress.as_ref())?,
        log: sealer.log(job, &settle.log)?,
        keep: settle.keep,
    };
    Ok((sealed, sent))
}

/// Returns the effects as the store gets them, or the state that can't be opened and the reason.
#[allow(clippy::type_complexity, reason = "two ways to fail, of which one is this settlement's alone")]
fn seal_effects<'s>(
    sealer: &Sealer<'_>,
    plugin: &'s PluginName,
    effects: &'s Effects,
    states: &'s States<'_>,
) -> Result<std::result::Result<(Effects, Sent), (&'s StateKey, &'s Unopened)>> {
    let stored = |key: &'s StateKey| states.get(&(plugin, key)).and_then(Option::as_ref);
    let unopened = rests_on(effects)
        .find_map(|key| stored(key).and_then(|stored| Some((key, stored.plain.as_ref().err()?))));
    if let Some(unopened) = unopened {
        return Ok(Err(unopened));
    }
    let plain = |key: &'s StateKey| stored(key).and_then(|stored| stored.plain.as_deref().ok());
    let raw = |key: &'s StateKey| stored(key).map(|stored| stored.raw.clone());
    if let Some(key) = conflict(effects, plain) {
        // Nothing of it will be written, whatever has happened since, so nothing else has to be sent.
        let mut doomed = Effects::default();
        doomed
            .expect(key.clone(), Some(sealer.seal(AssociatedData::State { plugin, key }, b"never stored")?));
        return Ok(Ok((doomed, Sent::Final)));
    }
    let mut sealed = Effects::default();
    rests_on(effects).for_each(|key| sealed.expect(key.clone(), raw(key)));
    for (key, write) in effects.writes() {
        let seal = |value: &[u8]| sealer.seal(AssociatedData::State { plugin, key }, value);
        match write {
            StateWrite::Delete => sealed.delete(key.clone()),
            StateWrite::Set { value, ttl } => sealed.set(key.clone(), seal(value)?, *ttl),
            StateWrite::Replace(value) => sealed.replace(key.clone(), seal(value)?),
            StateWrite::Add(by) => {
                let sum = add(plain(key), *by).expect("a sum that can't be made is a conflict");
                sealed.replace(key.clone(), seal(&sum)?);
            }
        }
    }
    for job in effects.jobs() {
        sealed.enqueue(sealer.job(job)?);
    }
    Ok(Ok((sealed, Sent::Hopeful)))
}

/// Returns the first key whose value isn't what the run had relied on, in the order in which every broker looks.
fn conflict<'s>(
    effects: &'s Effects,
    stored: impl Fn(&'s StateKey) -> Option<&'s [u8]>,
) -> Option<&'s StateKey> {
    let changed = effects.expectations().find(|(key, expected)| stored(key) != *expected);
    let no_number = || {
        effects.writes().find_map(|(key, write)| match write {
            StateWrite::Add(by) => add(stored(key), *by).is_err().then_some(key),
            StateWrite::Set { .. } | StateWrite::Replace(_) | StateWrite::Delete => None,
        })
    };
    changed.map(|(key, _)| key).or_else(no_number)
}
