"""The jobs of a fake host: which there are, which is next, whose unique key is held."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from .._codec import decode
from .._host import NewJob

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
    #: What has become of it.
    state: JobState = "waiting"
    #: How often it has been tried.
    attempts: int = 0


@dataclass(frozen=True)
class Created:
    """A job that is to be created, under the id that was given for it."""

    id: str
    new: NewJob


class Jobs:
    """All jobs of a host, in the order in which they were created."""

    def __init__(self) -> None:
        self._jobs: dict[str, EnqueuedJob] = {}
        # When each may run, by the host's clock, and its place among those that may.
        self._due: dict[str, tuple[float, int]] = {}
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
        if new.unique_key is not None:
            for job in self._jobs.values():
                if job.state == "waiting" and (job.kind, job.unique_key) == (new.kind, new.unique_key):
                    return job.id
        payload = value_of(new.payload, new.payload)
        self._jobs[created.id] = EnqueuedJob(
            created.id, new.kind, payload, new.payload, new.queue, new.delay_ms, new.priority, new.unique_key
        )
        self.retry(created.id, now_ms + new.delay_ms)
        return created.id

    def next(self, now_ms: float, runs: Callable[[str], bool]) -> EnqueuedJob | None:
        """The job that is to be run next.

        Of those that may run now it is the one with the highest priority that has waited longest, or else the one that may
        run first.
        """

        def order(job: EnqueuedJob) -> tuple[float, int, float, int]:
            due, place = self._due[job.id]
            return max(due - now_ms, 0), -job.priority, due, place

        waiting = [job for job in self._jobs.values() if job.state == "waiting" and runs(job.kind)]
        return min(waiting, key=order, default=None)

    def due_of(self, id: str) -> float:
        return self._due[id][0]

    def retry(self, id: str, due_ms: float) -> None:
        self._due[id] = (due_ms, self._places)
        self._places += 1


def value_of(data: bytes, otherwise: Any) -> Any:
    """The value of bytes that are JSON."""
    try:
        return decode(data)
    except ValueError:
        return otherwise
