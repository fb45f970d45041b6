//! Stored form of a job's options: a MessagePack array with a place for each, `false` where it is absent. Places that a later
//! version has added behind those known to this one are skipped, so it has to be safe to ignore them; what isn't needs a layout
//! of its own. Changed is none of them where jobs are moved, so they stay as they are.

use std::time::Duration;

use sandhog_core::flow::FlowMember;
use sandhog_core::id::{ContentType, GroupKey, JobId, LabelName, LabelValue, TraceParent, TraceState};
use sandhog_core::job::{JobOptions, TraceContext};
use sandhog_core::labels::{LABELS_MAX, Labels};
use sandhog_core::time::millis;
use sandhog_core::unique::{Debounce, OnClash, UNIQUE_FOR_MAX, UniqueRule, UniqueUntil};

use crate::pack::{Packer, Unpacker, Unreadable};

/// Number of options that this version knows.
const PLACES: usize = 8;

/// Place, from 1 on, of the time within which a job has to start, in milliseconds.
pub(crate) const START_WITHIN_PLACE: usize = 2;

/// Place of a job's labels, from 1 on: names and values by turns.
pub(crate) const LABELS_PLACE: usize = 4;

/// Place of a job's membership in a flow, from 1 on.
pub(crate) const FLOW_PLACE: usize = 7;

/// Place of the rule of a job's unique key, from 1 on.
pub(crate) const UNIQUE_PLACE: usize = 8;

/// Maximum length of the stored form, in bytes.
pub(crate) const OPTIONS_BYTES_MAX: usize = u16::MAX as usize;

/// Returns the whole milliseconds of a duration, as far as all stores can count exactly: up to 285,000 years.
pub(crate) fn exact_millis(duration: Duration) -> u64 {
    millis(duration).min(1 << 53)
}

/// Returns the stored form; `None` if there are no options, and so nothing is to be stored.
pub(crate) fn to_bytes(options: &JobOptions) -> Option<Vec<u8>> {
    if *options == JobOptions::default() {
        return None;
    }
    let JobOptions { group, start_within, deadline, labels, content_type, trace, flow, unique } = options;
    let mut packer = Packer::default();
    packer.array(PLACES);
    packer.optional_bytes(group.as_ref().map(|group| group.as_str().as_bytes()));
    packer.optional_uint(start_within.map(exact_millis)).optional_uint(deadline.map(exact_millis));
    if labels.is_empty() {
        packer.absent();
    } else {
        packer.array(2 * labels.iter().len());
        for (name, value) in labels.iter() {
            packer.bytes(name.as_str().as_bytes()).bytes(value.as_str().as_bytes());
        }
    }
    packer.optional_bytes(content_type.as_ref().map(|content_type| content_type.as_str().as_bytes()));
    match trace {
        None => packer.absent(),
        Some(TraceContext { parent, state }) => packer
            .array(2)
            .bytes(parent.as_str().as_bytes())
            .optional_bytes(state.as_ref().map(|state| state.as_str().as_bytes())),
    };
    packer.optional_bytes(flow.as_ref().map(flow_bytes).as_deref());
    put_unique(&mut packer, unique);
    let bytes = packer.into_bytes();
    debug_assert!(bytes.len() <= OPTIONS_BYTES_MAX, "each option is bounded");
    Some(bytes)
}

/// Reads the stored form.
pub(crate) fn read(bytes: &[u8]) -> Result<JobOptions, Unreadable> {
    let mut from = Unpacker::new(bytes);
    let mut places = Places { left: from.array()?, from: &mut from };
    Ok(JobOptions {
        group: places
            .next(|from| GroupKey::parse(from.text()?).map_err(|_| Unreadable("a group is not valid")))?,
        start_within: places.next(Unpacker::uint)?.map(Duration::from_millis),
        deadline: places.next(Unpacker::uint)?.map(Duration::from_millis),
        labels: places.next(read_labels)?.unwrap_or_default(),
        content_type: places.next(|from| {
            ContentType::parse(from.text()?).map_err(|_| Unreadable("a content type is not valid"))
        })?,
        trace: places.next(read_trace)?,
        flow: places.next(|from| read_flow(from.bytes()?))?,
        unique: places.next(read_unique)?.unwrap_or_default(),
    })
}

// What is true of a member of a flow, as bits; `redis/lua/flows.lua` goes by the first two.
const HAS_PARENTS: u64 = 1;
const HAS_DEPENDANTS: u64 = 2;
const TAKES_OUTPUTS: u64 = 4;

/// Largest delay that is stored, in milliseconds: 6 bytes.
const DELAY_MAX: u64 = (1 << 48) - 1;

/// Returns the stored form of a job's membership in a flow: the flow's id (26 bytes), bits (1), and the delay in milliseconds (6).
pub(crate) fn flow_bytes(member: &FlowMember) -> Vec<u8> {
    let FlowMember { flow, has_parents, has_dependants, takes_outputs, delay } = member;
    let bit = |is: &bool, bit| if *is { bit } else { 0 };
    let bits = bit(has_parents, HAS_PARENTS)
        | bit(has_dependants, HAS_DEPENDANTS)
        | bit(takes_outputs, TAKES_OUTPUTS);
    let mut bytes = flow.to_string().into_bytes();
    let mut rest = Packer::default();
    rest.number(bits, 1).number(millis(*delay).min(DELAY_MAX), 6);
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

fn read_flow(bytes: &[u8]) -> Result<FlowMember, Unreadable> {
    const ID_BYTES: usize = 26;
    let mut from = Unpacker::new(bytes);
    let id = std::str::from_utf8(from.take(ID_BYTES)?).map_err(|_| Unreadable("a flow's id is no text"))?;
    let flow = JobId::parse(id).map_err(|_| Unreadable("a flow's id is no ULID"))?;
    let bits = from.number(1)?;
    Ok(FlowMember {
        flow,
        has_parents: bits & HAS_PARENTS != 0,
        has_dependants: bits & HAS_DEPENDANTS != 0,
        takes_outputs: bits & TAKES_OUTPUTS != 0,
        delay: Duration::from_millis(from.number(6)?),
    })
}

fn read_labels(from: &mut Unpacker<'_>) -> Result<Labels, Unreadable> {
    let invalid = |_| Unreadable("a label is not valid");
    let count = from.array()? / 2;
    let labels = (0..count.min(LABELS_MAX + 1)).map(|_| {
        let name = LabelName::parse(from.text()?).map_err(invalid)?;
        Ok((name, LabelValue::parse(from.text()?).map_err(invalid)?))
    });
    let labels = labels.collect::<Result<Vec<_>, Unreadable>>()?;
    Labels::of(labels).map_err(|_| Unreadable("the labels are not valid"))
}

fn read_trace(from: &mut Unpacker<'_>) -> Result<TraceContext, Unreadable> {
    let invalid = |_| Unreadable("a trace context is not valid");
    from.array()?;
    let parent = TraceParent::parse(from.text()?).map_err(invalid)?;
    let state = from.optional(Unpacker::text)?.map(TraceState::parse).transpose().map_err(invalid)?;
    Ok(TraceContext { parent, state })
}

/// Numbers of the events that free a unique key.
pub(crate) const UNTIL_SETTLED: u64 = 0;
pub(crate) const UNTIL_STARTED: u64 = 1;
pub(crate) const UNTIL_OVER: u64 = 2;
/// Numbers of what becomes of a job whose key is held.
pub(crate) const KEEP: u64 = 0;
pub(crate) const REPLACE: u64 = 1;
pub(crate) const DEBOUNCE: u64 = 2;

/// Writes the rule of a unique key: when the key is free, after how many milliseconds in any case, what becomes of a job whose
/// key is held, and the delay and longest wait of a debounce.
fn put_unique(packer: &mut Packer, rule: &UniqueRule) {
    if *rule == UniqueRule::default() {
        packer.absent();
        return;
    }
    let until = match rule.until {
        UniqueUntil::Settled => UNTIL_SETTLED,
        UniqueUntil::Started => UNTIL_STARTED,
        UniqueUntil::Over => UNTIL_OVER,
    };
    packer
        .array(5)
        .uint(until)
        .optional_uint(rule.lasts.map(|lasts| exact_millis(lasts.min(UNIQUE_FOR_MAX))));
    match rule.on_clash {
        OnClash::Keep => packer.uint(KEEP).absent().absent(),
        OnClash::Replace => packer.uint(REPLACE).absent().absent(),
        OnClash::Debounce(Debounce { delay, longest }) => {
            packer.uint(DEBOUNCE).uint(exact_millis(delay)).uint(exact_millis(longest))
        }
    };
}

fn read_unique(from: &mut Unpacker<'_>) -> Result<UniqueRule, Unreadable> {
    from.array()?;
    let until = match from.uint()? {
        UNTIL_SETTLED => UniqueUntil::Settled,
        UNTIL_STARTED => UniqueUntil::Started,
        UNTIL_OVER => UniqueUntil::Over,
        _ => return Err(Unreadable("a unique key is held until what this version doesn't know")),
    };
    let lasts = from.optional(Unpacker::uint)?.map(Duration::from_millis);
    let on_clash = from.uint()?;
    let delay = from.optional(Unpacker::uint)?.map(Duration::from_millis);
    let longest = from.optional(Unpacker::uint)?.map(Duration::from_millis);
    let on_clash = match (on_clash, delay, longest) {
        (KEEP, ..) => OnClash::Keep,
        (REPLACE, ..) => OnClash::Replace,
        (DEBOUNCE, Some(delay), Some(longest)) => OnClash::Debounce(Debounce { delay, longest }),
        _ => return Err(Unreadable("what becomes of a job whose key is held isn't known to this version")),
    };
    Ok(UniqueRule { until, lasts, on_clash })
}

/// The places of a stored form, of which an earlier version has written fewer.
struct Places<'a, 'b> {
    left: usize,
    from: &'a mut Unpacker<'b>,
}

impl<'b> Places<'_, 'b> {
    fn next<T>(
        &mut self,
        read: impl FnOnce(&mut Unpacker<'b>) -> Result<T, Unreadable>,
    ) -> Result<Option<T>, Unreadable> {
        match self.left.checked_sub(1) {
            None => Ok(None),
            Some(left) => {
                self.left = left;
                self.from.optional(read)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_written_is_read(
            group in proptest::option::of("[^\\p{Cc}]{1,30}"), times: [Option<u32>; 2], traced: bool,
            flow in proptest::option::of((any::<u128>(), any::<[bool; 3]>(), 0..1u64 << 48)),
            labels in proptest::collection::btree_map("[a-z]{1,9}", "[^\\p{Cc}]{0,20}", 0..LABELS_MAX),
            until in prop::sample::select(&UniqueUntil::ALL[..]),
            lasts in proptest::option::of(0..1_000_000_000u64),
            clash in prop::sample::select(&[KEEP, REPLACE, DEBOUNCE][..]),
            wait in 0..1_000_000_000u64,
        ) {
            let (wait, longest) = (Duration::from_millis(wait), Duration::from_millis(2 * wait + 1));
            let on_clash = match clash {
                KEEP => OnClash::Keep,
                REPLACE => OnClash::Replace,
                _ => OnClash::Debounce(Debounce { delay: wait, longest }),
            };
            let unique = UniqueRule { until, lasts: lasts.map(Duration::from_millis), on_clash };
            let [start_within, deadline] = times.map(|ms| ms.map(|ms| Duration::from_millis(ms.into())));
            let group = group.map(|group| GroupKey::parse(&group).expect("a valid group"));
            let labels = labels.into_iter().map(|(name, value)| {
                (LabelName::parse(&name).expect("a valid name"), LabelValue::parse(&value).expect("a valid value"))
            });
            let labels = Labels::of(labels).expect("few of them");
            let content_type = traced.then(|| ContentType::parse("text/plain; charset=utf-8").expect("a valid type"));
            let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
            let trace = traced.then(|| TraceContext {
                parent: TraceParent::parse(parent).expect("a valid position"),
                state: group.is_some().then(|| TraceState::parse("a=1,b=2").expect("a valid state")),
            });
            let flow = flow.map(|(id, [has_parents, has_dependants, takes_outputs], delay)| FlowMember {
                flow: JobId::from_parts(sandhog_core::time::Timestamp::from_millis(7), id),
                has_parents,
                has_dependants,
                takes_outputs,
                delay: Duration::from_millis(delay),
            });
            let options = JobOptions { group, start_within, deadline, labels, content_type, trace, flow, unique };
            match to_bytes(&options) {
                None => prop_assert_eq!(options, JobOptions::default()),
                Some(bytes) => prop_assert_eq!(read(&bytes), Ok(options)),
            }
        }

        #[test]
        fn reading_any_bytes_never_panics(bytes: Vec<u8>) {
            let _ = read(&bytes);
        }
    }

    #[test]
    fn places_of_later_versions_are_skipped_and_missing_ones_are_absent() {
        let mut later = Packer::default();
        later
            .array(10)
            .bytes(b"acme")
            .absent()
            .absent()
            .absent()
            .absent()
            .absent()
            .absent()
            .absent()
            .uint(7)
            .absent();
        let group = Some(GroupKey::parse("acme").expect("a valid group"));
        assert_eq!(read(&later.into_bytes()), Ok(JobOptions { group, ..JobOptions::default() }));
        let mut earlier = Packer::default();
        earlier.array(0);
        assert_eq!(read(&earlier.into_bytes()), Ok(JobOptions::default()));
    }
}
