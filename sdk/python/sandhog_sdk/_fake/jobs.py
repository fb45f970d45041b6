"""The jobs of a fake host: which there are, which is next, whose unique key is held."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from .._codec import decode
from .._host import After, JobFacts, NewJob
from .keys import KeyHold, clash_of, delay_of, hold_of

JobState = Literal["waiting", "succeeded", "dead", "cancelled"]


@dataclass(frozen=True)
class EnqueuedJob:
    """A job of a fake host: created by a handler's success, or by `FakeHost.enqueue`."""

    id: str
    kind: str
    #: The value of the payload's JSON; the bytes, if they are none.
    payload: Any
    #: The payload as it is kept with the job.
    data: bytes
    queue: str | None
    delay_ms: int
    priority: int
    unique_key: str | None
    content_type: str | None = None
    group: str | None = None
    start_within_ms: int | None = None
    deadline_ms: int | None = None
    labels: dict[str, str] = field(default_factory=dict)
    #: What has become of it.
    state: JobState = "waiting"
    #: How often it has been tried, as far as that counts.
    attempts: int = 0


@dataclass(frozen=True)
class Created:
    """A job that is to be created, under the id that was given for it."""

    id: str
    new: NewJob


@dataclass
class _Timing:
    """Times of a job, by the host's clock."""

    created_at_ms: float
    #: When it may run, and its place among those that may.
    due_ms: float
    place: int
    #: When it has to have started, and when it is given up.
    start_by_ms: float
    ends_at_ms: float
    has_started: bool = False


_NEVER = float("inf")


class Jobs:
    """All jobs of a host, in the order in which they were created."""

    def __init__(self) -> None:
        self._jobs: dict[str, EnqueuedJob] = {}
        self._timings: dict[str, _Timing] = {}
        # How unique keys are held, by kind and key.
        self._keys: dict[tuple[str, str], KeyHold] = {}
        self._places = 0

    def all(self) -> list[EnqueuedJob]:
        return list(self._jobs.values())

    def get(self, id: str) -> EnqueuedJob:
        return self._jobs[id]

    def change(self, id: str, **changed: Any) -> EnqueuedJob:
        self._jobs[id] = replace(self._jobs[id], **changed)
        return self._jobs[id]

    def create(self, created: Created, now_ms: float) -> str:
        """Creates a job, unless its unique key is held. Returns its id, or that of the holder."""
        new = created.new
        key, rule = (None, None) if new.unique is None else new.unique
        delay_ms = delay_of(rule)
        if delay_ms is None:
            delay_ms = new.start.ms if isinstance(new.start, After) else max(new.start.ms - int(now_ms), 0)
        if key is not None and rule is not None:
            slot = (new.kind, key)
            held = self._keys.get(slot)
            if held is not None and self._is_held(held, now_ms):
                waits = self._jobs[held.job].state == "waiting"
                clash = clash_of(rule, held, waits, now_ms)
                if clash.replaces:
                    self.change(held.job, payload=value_of(new.payload, new.payload), data=new.payload)
                if clash.due_ms is not None:
                    self._put_off(held.job, clash.due_ms)
                if clash.ends_ms is not None:
                    held.ends_ms = clash.ends_ms
                return held.job
            self._keys[slot] = hold_of(created.id, rule, now_ms)
        self._jobs[created.id] = EnqueuedJob(
            created.id,
            new.kind,
            value_of(new.payload, new.payload),
            new.payload,
            new.queue,
            delay_ms,
            new.priority,
            key,
            content_type=new.content_type,
            group=new.group,
            start_within_ms=new.start_within_ms,
            deadline_ms=new.deadline_ms,
            labels=dict(new.labels),
        )
        due = now_ms + delay_ms
        start_by, ends_at = (_NEVER if ms is None else due + ms for ms in (new.start_within_ms, new.deadline_ms))
        self._timings[created.id] = _Timing(now_ms, due, self._places, start_by, ends_at)
        self._places += 1
        return created.id

    def _is_held(self, held: KeyHold, now_ms: float) -> bool:
        return held.is_in_force(self._jobs[held.job].state, self._timings[held.job].has_started, now_ms)

    def _put_off(self, id: str, due_ms: float) -> None:
        timing = self._timings[id]
        timing.start_by_ms += due_ms - timing.due_ms
        timing.due_ms = due_ms

    def next(self, now_ms: float, runs: Callable[[str], bool]) -> EnqueuedJob | None:
        """The job that is to be run next.

        Of those that may run now it is the one with the highest priority that has waited longest, or else the one that may
        run first.
        """

        def order(job: EnqueuedJob) -> tuple[float, int, float, int]:
            timing = self._timings[job.id]
            return max(timing.due_ms - now_ms, 0), -job.priority, timing.due_ms, timing.place

        waiting = [job for job in self._jobs.values() if job.state == "waiting" and runs(job.kind)]
        return min(waiting, key=order, default=None)

    def due_of(self, id: str) -> float:
        return self._timings[id].due_ms

    def facts_of(self, id: str) -> JobFacts:
        """What is known of a job beside its id, kind and payload."""
        job, timing = self._jobs[id], self._timings[id]
        deadline = None if timing.ends_at_ms == _NEVER else int(timing.ends_at_ms)
        return JobFacts(int(timing.created_at_ms), job.content_type, job.group, list(job.labels.items()), deadline)

    def expire(self, id: str, now_ms: float) -> bool:
        """Ends a job whose time is over before it could run. Returns whether it was."""
        timing = self._timings[id]
        if not timing.has_started and timing.start_by_ms < now_ms:
            self.change(id, state="cancelled")
        elif timing.ends_at_ms <= now_ms:
            self.change(id, state="dead")
        return self._jobs[id].state != "waiting"

    def tried(self, id: str) -> EnqueuedJob:
        """Counts an attempt that begins."""
        self._timings[id].has_started = True
        return self.change(id, attempts=self._jobs[id].attempts + 1)

    def retry(self, id: str, due_ms: float) -> None:
        """Has a job wait until it is due again. It is dead if its time is over then."""
        timing = self._timings[id]
        if timing.ends_at_ms <= due_ms:
            self.change(id, state="dead")
            return
        timing.due_ms, timing.place = due_ms, self._places
        self._places += 1

    def put_off(self, id: str, due_ms: float) -> None:
        """Has a job wait until it is due again, as if this attempt hadn't been made. It is dead if its time is over then."""
        self.retry(id, due_ms)
        if self._jobs[id].state == "waiting":
            self.change(id, attempts=self._jobs[id].attempts - 1)


def value_of(data: bytes, otherwise: Any) -> Any:
    """The value of bytes that are JSON."""
    try:
        return decode(data)
    except ValueError:
        return otherwise
