"""What a handler can ask and tell its host."""

import enum
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final, TypedDict, Unpack

from ._codec import decode, encode
from ._failure import HostError, whole_ms
from ._http import Http
from ._host import After, At, AttemptInfo, Debounced, Hold, Host, Job, JobFacts, Level, NewJob, StopReason
from ._secret import Secret
from ._unique import Debounce, Unique

_PRIORITY_USUAL = 100


class Absent(enum.Enum):
    """The type of `ABSENT`."""

    ABSENT = "ABSENT"

    def __repr__(self) -> str:
        return "ABSENT"


#: A state key that isn't there, for `State.compare_and_set`. `None` is a value, which a key may have: JSON's `null`.
ABSENT: Final = Absent.ABSENT


class NewJobOptions(TypedDict, total=False):
    """How a further job is enqueued."""

    #: What the payload is, such as `text/csv`.
    content_type: str | None
    #: The queue; that of the kind's plugin, if not given.
    queue: str | None
    #: The group in the queue, such as a customer: what the queue's rules for groups go by.
    group: str | None
    #: Wait at least so many seconds.
    delay: float
    #: When it may start, instead of a delay.
    at: datetime | None
    #: Cancel it if it hasn't started so many seconds after it could have.
    start_within: float | None
    #: Give it up so many seconds after it could have started, whatever attempts are left.
    deadline: float | None
    #: 0 to 255; the highest goes first. 100 is usual.
    priority: int
    #: Names and values for people and programs to see, at most 16.
    labels: Mapping[str, str]
    #: While a job of the same kind with this key is neither succeeded, dead nor cancelled, no second one is created; jobs of
    #: different kinds don't hold each other's keys.
    unique_key: str | None
    #: A unique key with its rule, instead of `unique_key`.
    unique: Unique | Debounce | None


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

    @cached_property
    def _facts(self) -> JobFacts:
        return self._host.job_info()

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
    def enqueued_at(self) -> datetime:
        """When the job was enqueued."""
        return datetime.fromtimestamp(self._facts.enqueued_at_ms / 1000, UTC)

    @property
    def content_type(self) -> str | None:
        """What the payload is, such as `text/csv`, if its producer has said so."""
        return self._facts.content_type

    @property
    def group(self) -> str | None:
        """The job's group in its queue, such as a customer."""
        return self._facts.group

    @property
    def labels(self) -> dict[str, str]:
        """Names and values that the job's producer gave it."""
        return dict(self._facts.labels)

    @property
    def job_deadline(self) -> datetime | None:
        """When the job is given up, whatever attempts are left. `deadline` is that of this attempt."""
        ms = self._facts.deadline_ms
        return None if ms is None else datetime.fromtimestamp(ms / 1000, UTC)

    @property
    def remaining(self) -> float:
        """Seconds until the deadline; 0 when it has passed."""
        return self._host.remaining_ms() / 1000

    @property
    def stop_requested(self) -> StopReason | None:
        """Whether the host would like the handler to stop, and why. It needs no help to stop one."""
        return self._host.stop_requested()

    def progress(self, done: int, total: int | None = None, message: str | None = None) -> None:
        """Reports how far the job has come, in any unit. The last report wins; the host may leave some out."""
        if done < 0 or (total is not None and total < 0):
            raise ValueError(f"progress: what is done is a whole number from 0, not {done} of {total}")
        self._host.report(done, total, message)

    def enqueue(self, kind: str, payload: object, **options: Unpack[NewJobOptions]) -> str:
        """Enqueues a further job, held back until this one succeeds, and returns its id.

        The payload is JSON, or bytes as they are. `NewJobOptions` has the options; times are in seconds:
        `ctx.enqueue("mail.send", mail, group=mail["to"], delay=60, unique=Unique(mail["id"], until="started"))`.
        """
        return self._host.enqueue(new_job(kind, payload, options))

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


def new_job(kind: str, payload: object, options: NewJobOptions) -> NewJob:
    """A job to be created."""
    priority = options.get("priority", _PRIORITY_USUAL)
    if not 0 <= priority <= 255:
        raise ValueError(f"enqueue: the priority is a whole number from 0 to 255, not {priority}")
    at = options.get("at")
    if at is not None and "delay" in options:
        raise ValueError("enqueue: a job has a delay or a time to start at, not both")
    return NewJob(
        kind,
        encode(payload),
        content_type=options.get("content_type"),
        queue=options.get("queue"),
        group=options.get("group"),
        start=After(whole_ms(options.get("delay", 0))) if at is None else At(whole_ms(max(at.timestamp(), 0))),
        start_within_ms=_ms(options.get("start_within")),
        deadline_ms=_ms(options.get("deadline")),
        priority=priority,
        labels=list(options.get("labels", {}).items()),
        unique=_unique(options.get("unique_key"), options.get("unique")),
    )


def _unique(key: str | None, unique: Unique | Debounce | None) -> tuple[str, Hold | Debounced] | None:
    """A unique key with its rule."""
    if key is not None and unique is not None:
        raise ValueError("enqueue: a job has one of unique_key and unique, not both")
    match unique:
        case None:
            return None if key is None else (key, Hold("settled", None, replaces=False))
        case Unique(key, until, lasts, replaces):
            if until not in ("settled", "started", "over"):
                raise ValueError(f"enqueue: a unique key is held until settled, started or over, not {until}")
            return key, Hold(until, _ms(lasts), replaces)
        case Debounce(key, delay, longest, leading):
            return key, Debounced(whole_ms(delay), whole_ms(longest), leading)


# A line is never the reason that a job fails.
def _text(value: object) -> str:
    try:
        return json.dumps(value, default=_plain, ensure_ascii=False) if isinstance(value, (dict, list)) else _plain(value)
    except Exception as error:
        return f"(not shown: {type(error).__name__})"


def _plain(value: object) -> str:
    return repr(value) if isinstance(value, Secret) else str(value)
