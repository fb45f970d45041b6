"""What a handler can ask and tell its host."""

import enum
import json
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from ._codec import decode, encode
from ._failure import HostError, whole_ms
from ._http import Http
from ._host import AttemptInfo, Host, Job, Level, NewJob, StopReason
from ._secret import Secret

_PRIORITY_USUAL = 100


class Absent(enum.Enum):
    """The type of `ABSENT`."""

    ABSENT = "ABSENT"

    def __repr__(self) -> str:
        return "ABSENT"


#: A state key that isn't there, for `State.compare_and_set`. `None` is a value, which a key may have: JSON's `null`.
ABSENT: Final = Absent.ABSENT


class Context:
    """What a handler can ask and tell its host.

    What it writes through `enqueue` and `state` happens if and only if the job succeeds, exactly once. Log lines and
    progress are seen at once. Files of granted folders are opened with `open`, by their paths or by what `path` gives, which
    a test can fill; environment variables are in `os.environ`.
    """

    def __init__(self, host: Host, job: Job) -> None:
        self._host = host
        self._job = job
        #: Small values that last from job to job.
        self.state = State(host)
        #: Structured log lines: `ctx.log.info("resized", width=320)`.
        self.log = Log(host)
        #: Requests to hosts that the plugin's TOML grants, if the project asks for HTTP.
        self.http = Http(host)

    # Asked for when first needed: a handler that doesn't need it doesn't pay.
    @cached_property
    def _attempt(self) -> AttemptInfo:
        return self._host.attempt_info()

    @property
    def job_id(self) -> str:
        """The job's id, unique for all time."""
        return self._job.id

    @property
    def kind(self) -> str:
        """The kind of job, such as `invoice.total`."""
        return self._job.kind

    @property
    def tenant(self) -> str:
        """The tenant whose job this is."""
        return self._attempt.tenant

    @property
    def queue(self) -> str:
        """The queue that the job came from."""
        return self._attempt.queue

    @property
    def attempt(self) -> int:
        """Which attempt this is: 1 for the first that counts."""
        return self._attempt.attempt

    @property
    def max_attempts(self) -> int:
        """After this attempt there is no other."""
        return self._attempt.max_attempts

    @property
    def idempotency_key(self) -> str:
        """The same on every attempt of this job, and of no other: outside systems can tell a repetition by it."""
        return self._attempt.idempotency_key

    @property
    def deadline(self) -> datetime:
        """When this attempt ends at the latest."""
        return datetime.fromtimestamp(self._attempt.deadline_ms / 1000, UTC)

    @property
    def remaining(self) -> float:
        """Seconds until the deadline; 0 when it has passed."""
        return self._host.remaining_ms() / 1000

    @property
    def stop_requested(self) -> StopReason | None:
        """Whether the host would like the handler to stop, and why. A courtesy: it needs no help to stop one."""
        return self._host.stop_requested()

    def progress(self, done: int, total: int | None = None, message: str | None = None) -> None:
        """Reports how far the job has come, in any unit. The last report wins; the host may leave some out."""
        if done < 0 or (total is not None and total < 0):
            raise ValueError(f"progress: what is done is a whole number from 0, not {done} of {total}")
        self._host.report(done, total, message)

    def enqueue(
        self,
        kind: str,
        payload: object,
        *,
        queue: str | None = None,
        delay: float = 0,
        priority: int = _PRIORITY_USUAL,
        unique_key: str | None = None,
    ) -> str:
        """Enqueues a further job, held back until this one succeeds, and returns its id.

        The payload is JSON, or bytes as they are. `queue` is that of the kind's plugin, if not given. The job waits at
        least `delay` seconds. `priority` is 0 to 255; the highest goes first. While a job of the same kind with
        `unique_key` is neither succeeded, dead nor cancelled, no second one is created; jobs of different kinds don't hold
        each other's keys.
        """
        return self._host.enqueue(new_job(kind, payload, queue, delay, priority, unique_key))

    def secret(self, name: str) -> Secret:
        """A secret that the plugin's TOML grants: `ctx.secret("API_TOKEN").expose()`."""
        return Secret(self._host.secret(name))

    def path(self, path: str) -> Path:
        """Where a file or folder is that the plugin's TOML grants: `ctx.path("/in/a.csv").read_text()`.

        In a sandbox it is the path itself; under a `FakeHost` it leads to the files of the test.
        """
        return self._host.path(path)


class State:
    """Small values that last from job to job. A plugin of a tenant has state of its own.

    Reads see what is stored plus what this run has written. Values are JSON, or bytes as they are; keys are 1 to 256
    bytes without control characters; times are in seconds.
    """

    def __init__(self, host: Host) -> None:
        self._host = host

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a key; `default` if there is none."""
        data = self._host.state_get(key)
        if data is None:
            return default
        try:
            return decode(data)
        except ValueError as error:
            raise HostError("invalid-value", f"the value of state key `{key}` is {error}") from None

    def get_bytes(self, key: str) -> bytes | None:
        """The value of a key as it is stored."""
        return self._host.state_get(key)

    def set(self, key: str, value: object, *, ttl: float | None = None) -> None:
        """Sets a key; with `ttl` it goes away by itself after that time."""
        self._host.state_set(key, encode(value), _ms(ttl))

    def delete(self, key: str) -> None:
        """Removes a key."""
        self._host.state_delete(key)

    def increment(self, key: str, by: int = 1) -> None:
        """Adds to an integer; a missing one counts as 0. Increments of jobs that run at the same time all count."""
        if not -(2**63) <= by < 2**63:
            raise ValueError(f"increment state key `{key}`: {by} is past the range of 64 bits")
        self._host.state_increment(key, by)

    def compare_and_set(self, key: str, expected: object, value: object, *, ttl: float | None = None) -> bool:
        """Sets a key to `value` if it is `expected` now, and still is when the job settles.

        `expected` is `ABSENT` where the key isn't to be there; None is a value, which a key may have. Returns whether it was;
        if another job has changed it by then, this attempt is given up and the job is tried again.
        """
        before = None if expected is ABSENT else encode(expected)
        return self._host.state_compare_and_set(key, before, encode(value), _ms(ttl))


class Log:
    """Structured log lines. Past the log limit, lines are counted and dropped. Put no secret in one."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def trace(self, message: str, **fields: object) -> None:
        """Every step, for whoever follows the code."""
        self._write("trace", message, fields)

    def debug(self, message: str, **fields: object) -> None:
        """What helps to find a fault."""
        self._write("debug", message, fields)

    def info(self, message: str, **fields: object) -> None:
        """What happened."""
        self._write("info", message, fields)

    def warn(self, message: str, **fields: object) -> None:
        """What shouldn't be so, though the job goes on."""
        self._write("warn", message, fields)

    def error(self, message: str, **fields: object) -> None:
        """What made the job fail."""
        self._write("error", message, fields)

    def _write(self, level: Level, message: str, fields: dict[str, object]) -> None:
        self._host.log(level, str(message), [(name, _text(value)) for name, value in fields.items()])


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else whole_ms(seconds)


def new_job(
    kind: str, payload: object, queue: str | None, delay: float, priority: int, unique_key: str | None
) -> NewJob:
    """A job to be created."""
    if not 0 <= priority <= 255:
        raise ValueError(f"enqueue: the priority is a whole number from 0 to 255, not {priority}")
    return NewJob(kind, encode(payload), queue, whole_ms(delay), priority, unique_key)


# A line is never the reason that a job fails.
def _text(value: object) -> str:
    try:
        return json.dumps(value, default=_plain, ensure_ascii=False) if isinstance(value, (dict, list)) else _plain(value)
    except Exception as error:
        return f"(not shown: {type(error).__name__})"


def _plain(value: object) -> str:
    return repr(value) if isinstance(value, Secret) else str(value)
