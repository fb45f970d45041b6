//! A record in bytes, as stores keep it: a version, then fields in a fixed order. Numbers have the highest byte first; texts and
//! lists their length in 4 bytes before them.

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::time::Duration;

use super::record::{Past, Pause, Progress, Record, RunCounts, What};
use super::{Base, CatchUp, Cron, Overlap, Schedule, Source, Template, Times, Zone};
use crate::id::{JobId, Kind, PluginName, QueueName, ScheduleName};
use crate::job::Priority;
use crate::time::{Timestamp, millis};

const VERSION: u8 = 1;

/// Error for bytes that aren't those of a record, or of another version. Such a schedule doesn't fire.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the schedule can't be read: {0}")]
pub struct Unreadable(pub String);

impl Unreadable {
    fn cut() -> Self {
        Self("it is cut, or was written by another version".to_owned())
    }
}

type Read<T> = Result<T, Unreadable>;

impl Record {
    /// Encodes the record.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Out(vec![VERSION]);
        let Self { schedule, progress } = self;
        let Schedule { name, source, times, job, spread, times_max, catch_up, overlap, paused } = schedule;
        out.text(name.as_str());
        match source {
            Source::Plugin(plugin) => out.number(1).text(plugin.as_str()),
            Source::Command => out.number(0),
        };
        match times.base() {
            Base::Cron(crons) => out.number(0).list(crons, |out, cron| {
                out.text(cron.as_str());
            }),
            Base::Every { period, phase } => out.number(1).duration(*period).duration(*phase),
        };
        out.list(times.exclude(), |out, cron| {
            out.text(cron.as_str());
        });
        out.text(times.zone().name()).optional_time(times.start()).optional_time(times.end());
        let Template { kind, queue, payload, priority } = job;
        out.text(kind.as_str()).text(queue.as_str()).bytes(payload).number(priority.0.into());
        out.duration(*spread).number(times_max.map_or(0, NonZeroU64::get));
        out.duration(catch_up.window).number(catch_up.most.into());
        out.text(overlap.slug()).number((*paused).into());

        let Progress { handled_until, counts, last, open, waiting, pause } = progress;
        let RunCounts { fired, by_hand, missed, skipped } = *counts;
        out.time(*handled_until).number(fired).number(by_hand).number(missed).number(skipped);
        out.list(last, |out, Past { nominal, at, what }| {
            out.time(*nominal).time(*at);
            match *what {
                What::Fired(job) => out.number(0).job(job),
                What::CaughtUp(job) => out.number(1).job(job),
                What::Waited(job) => out.number(2).job(job),
                What::ByHand(job) => out.number(3).job(job),
                What::Skipped => out.number(4),
                What::Missed(count) => out.number(5).number(count),
                What::NoRoom => out.number(6),
            };
        });
        out.list(open, |out, job| {
            out.job(*job);
        });
        out.list(waiting, |out, nominal| {
            out.time(*nominal);
        });
        match pause {
            None => out.number(0),
            Some(Pause { by, since, note }) => {
                out.number(1).text(by.as_deref().unwrap_or_default()).time(*since).text(note)
            }
        };
        out.0
    }

    /// Decodes what [`Self::to_bytes`] has made.
    ///
    /// # Errors
    /// If the bytes are of another version, or something in them isn't valid in this one, such as a cron expression.
    pub fn from_bytes(bytes: &[u8]) -> Read<Self> {
        let mut from = In(bytes);
        if from.take(1)? != [VERSION] {
            return Err(Unreadable("it was written by another version".to_owned()));
        }
        let schedule = schedule(&mut from)?;
        let progress = progress(&mut from)?;
        if from.0.is_empty() { Ok(Self { schedule, progress }) } else { Err(Unreadable::cut()) }
    }
}

fn schedule(from: &mut In<'_>) -> Read<Schedule> {
    let name = ScheduleName::parse(from.text()?).map_err(wrong)?;
    let source = match from.number()? {
        0 => Source::Command,
        _ => Source::Plugin(PluginName::parse(from.text()?).map_err(wrong)?),
    };
    let base = match from.number()? {
        0 => Base::Cron(from.list(cron)?),
        _ => Base::Every { period: from.duration()?, phase: from.duration()? },
    };
    let exclude = from.list(cron)?;
    let zone = Zone::parse(from.text()?).map_err(wrong)?;
    let (start, end) = (from.optional_time()?, from.optional_time()?);
    let times = Times::new(base, exclude, zone, start, end).map_err(wrong)?;
    let kind = Kind::parse(from.text()?).map_err(wrong)?;
    let queue = QueueName::parse(from.text()?).map_err(wrong)?;
    let payload = from.bytes()?.to_vec();
    let priority = Priority(u8::try_from(from.number()?).map_err(wrong)?);
    let job = Template { kind, queue, payload, priority };
    let (spread, times_max) = (from.duration()?, NonZeroU64::new(from.number()?));
    let catch_up = CatchUp { window: from.duration()?, most: u32::try_from(from.number()?).map_err(wrong)? };
    let overlap = Overlap::from_slug(from.text()?).ok_or_else(Unreadable::cut)?;
    let paused = from.number()? == 1;
    Ok(Schedule { name, source, times, job, spread, times_max, catch_up, overlap, paused })
}

fn cron(from: &mut In<'_>) -> Read<Cron> {
    Cron::parse(from.text()?).map_err(wrong)
}

fn progress(from: &mut In<'_>) -> Read<Progress> {
    let handled_until = from.time()?;
    let [fired, by_hand, missed, skipped] = [from.number()?, from.number()?, from.number()?, from.number()?];
    let last = from.list(|from| {
        let (nominal, at) = (from.time()?, from.time()?);
        let what = match from.number()? {
            0 => What::Fired(from.job()?),
            1 => What::CaughtUp(from.job()?),
            2 => What::Waited(from.job()?),
            3 => What::ByHand(from.job()?),
            4 => What::Skipped,
            5 => What::Missed(from.number()?),
            6 => What::NoRoom,
            _ => return Err(Unreadable::cut()),
        };
        Ok(Past { nominal, at, what })
    })?;
    let (open, waiting) = (from.list(In::job)?, from.list(In::time)?);
    let pause = match from.number()? {
        0 => None,
        _ => {
            let by = Some(from.text()?.to_owned()).filter(|by| !by.is_empty());
            Some(Pause { by, since: from.time()?, note: from.text()?.to_owned() })
        }
    };
    let counts = RunCounts { fired, by_hand, missed, skipped };
    let (last, open, waiting): (VecDeque<_>, VecDeque<_>, VecDeque<_>) =
        (last.into(), open.into(), waiting.into());
    Ok(Progress { handled_until, counts, last, open, waiting, pause })
}

fn wrong(error: impl std::fmt::Display) -> Unreadable {
    Unreadable(error.to_string())
}

/// Bytes that are written.
pub(crate) struct Out(pub(crate) Vec<u8>);

impl Out {
    pub(crate) fn number(&mut self, number: u64) -> &mut Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    fn length(&mut self, length: usize) -> &mut Self {
        let length = u32::try_from(length).expect("all of it is bounded far below 4 GiB");
        self.0.extend_from_slice(&length.to_be_bytes());
        self
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.length(bytes.len()).0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    pub(crate) fn time(&mut self, at: Timestamp) -> &mut Self {
        self.number(at.as_millis())
    }

    /// 0 stands for none: no bound of a schedule is at the start of 1970.
    pub(crate) fn optional_time(&mut self, at: Option<Timestamp>) -> &mut Self {
        self.number(at.map_or(0, Timestamp::as_millis))
    }

    fn duration(&mut self, duration: Duration) -> &mut Self {
        self.number(millis(duration))
    }

    fn job(&mut self, job: JobId) -> &mut Self {
        self.0.extend_from_slice(&job.as_u128().to_be_bytes());
        self
    }

    pub(crate) fn list<'t, T: 't>(
        &mut self,
        items: impl IntoIterator<Item = &'t T, IntoIter: ExactSizeIterator>,
        mut put: impl FnMut(&mut Self, &T),
    ) -> &mut Self {
        let items = items.into_iter();
        self.length(items.len());
        items.for_each(|item| put(self, item));
        self
    }
}

/// Bytes that are read.
pub(crate) struct In<'b>(pub(crate) &'b [u8]);

impl<'b> In<'b> {
    pub(crate) fn take(&mut self, length: usize) -> Read<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or_else(Unreadable::cut)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| Unreadable::cut())
    }

    pub(crate) fn number(&mut self) -> Read<u64> {
        self.array().map(u64::from_be_bytes)
    }

    fn length(&mut self) -> Read<usize> {
        self.array().map(u32::from_be_bytes).and_then(|length| usize::try_from(length).map_err(wrong))
    }

    pub(crate) fn bytes(&mut self) -> Read<&'b [u8]> {
        let length = self.length()?;
        self.take(length)
    }

    pub(crate) fn text(&mut self) -> Read<&'b str> {
        std::str::from_utf8(self.bytes()?).map_err(wrong)
    }

    pub(crate) fn time(&mut self) -> Read<Timestamp> {
        self.number().map(Timestamp::from_millis)
    }

    pub(crate) fn optional_time(&mut self) -> Read<Option<Timestamp>> {
        self.time().map(|at| Some(at).filter(|at| at.as_millis() > 0))
    }

    fn duration(&mut self) -> Read<Duration> {
        self.number().map(Duration::from_millis)
    }

    fn job(&mut self) -> Read<JobId> {
        let id = u128::from_be_bytes(self.array()?);
        Ok(JobId::from_parts(Timestamp::from_millis((id >> 80) as u64), id))
    }

    pub(crate) fn list<T>(&mut self, mut read: impl FnMut(&mut Self) -> Read<T>) -> Read<Vec<T>> {
        let length = self.length()?;
        // Each takes a byte at least, so a wrong length reserves no room.
        (0..length).map(|_| read(self)).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{at, every};
    use super::*;

    fn full() -> Record {
        let crons =
            |texts: &[&str]| texts.iter().map(|text| Cron::parse(text).expect(text)).collect::<Vec<_>>();
        let zone = Zone::parse("America/New_York").expect("there is one");
        let base = Base::Cron(crons(&["0 9 * * mon-fri", "@weekly"]));
        let times = Times::new(base, crons(&["* * 24-26 12 *"]), zone, Some(at(5)), Some(at(4_000_000_000)))
            .expect("valid");
        let schedule = Schedule {
            source: Source::Plugin(PluginName::parse("report").expect("valid")),
            times,
            spread: Duration::from_millis(1500),
            times_max: NonZeroU64::new(7),
            catch_up: CatchUp { window: Duration::from_secs(60), most: 3 },
            overlap: Overlap::QueueOne,
            paused: true,
            ..every(60)
        };
        let mut record = Record::new(schedule, at(77)).paused(Pause::new(Some("ann"), at(78), "ümlaut"));
        let job = JobId::from_parts(at(60), 99);
        for what in [
            What::Fired(job),
            What::CaughtUp(job),
            What::Waited(job),
            What::ByHand(job),
            What::Skipped,
            What::Missed(9),
            What::NoRoom,
        ] {
            record.progress.last.push_back(Past { nominal: at(60), at: at(61), what });
        }
        record.progress.open.push_back(job);
        record.progress.waiting.push_back(at(120));
        record.progress.counts = RunCounts { fired: 1, by_hand: 2, missed: 3, skipped: u64::MAX };
        record
    }

    #[test]
    fn what_was_written_is_read() {
        for record in [full(), Record::new(every(60), at(1))] {
            assert_eq!(Record::from_bytes(&record.to_bytes()), Ok(record));
        }
    }

    #[test]
    fn another_version_and_an_expression_that_is_valid_no_more_are_told() {
        let mut bytes = full().to_bytes();
        let at = bytes.windows(7).position(|part| part == b"@weekly").expect("it is there");
        bytes[at..at + 7].copy_from_slice(b"@reboot");
        let error = Record::from_bytes(&bytes).expect_err("it is wrong").to_string();
        assert!(
            error.starts_with("the schedule can't be read: `@reboot` is not a cron expression"),
            "{error}"
        );
        bytes[0] = 2;
        assert!(Record::from_bytes(&bytes).is_err_and(|error| error.0.contains("another version")));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(at in any::<prop::sample::Index>(), to: u8, cut in any::<prop::sample::Index>(), bytes: Vec<u8>) {
            let _ = Record::from_bytes(&bytes);
            let mut changed = full().to_bytes();
            let length = changed.len();
            prop_assert!(Record::from_bytes(&changed[..cut.index(length)]).is_err());
            changed[at.index(length)] = to;
            if let Ok(read) = Record::from_bytes(&changed) {
                let _ = read.due(super::super::testing::at(1_000_000), &[], super::super::Room::There);
            }
        }
    }
}
