"""A host for unit tests, with no daemon and no Wasm: it keeps the promises of the real one that a handler can see.

A run works on a copy of what is stored. Its log and progress are seen at once; its state writes and jobs reach the host
only if the handler succeeds. Time stands still until the test moves it. Left out: the limits that an operator sets, and
other jobs at the same time.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ._codec import decode, encode
from ._failure import Failure, HostError, to_failure, whole_ms
from ._handler import Handler
from ._host import AttemptInfo, Job, Level, NewJob, StopReason

# When the clock of a new host stands still: a day in 2025, in milliseconds.
_NOW_MS = 1_750_000_000_000
_KEY_LENGTH_MAX = 256


@dataclass(frozen=True)
class LogLine:
    """A line that a handler logged."""

    level: Level
    message: str
    fields: dict[str, str]


@dataclass(frozen=True)
class Progress:
    """Progress that a handler reported."""

    done: int
    total: int | None
    message: str | None


@dataclass(frozen=True)
class EnqueuedJob:
    """A job that a handler's success created; `payload` is the value of its JSON, or bytes that are none."""

    id: str
    kind: str
    payload: Any
    queue: str | None
    delay_ms: int
    priority: int
    unique_key: str | None


@dataclass(frozen=True)
class Run:
    """What a run did."""

    #: The value of the output's JSON; None if the run failed, or the output is no JSON.
    output: Any
    #: The output as it is kept with the job; None if the run failed.
    data: bytes | None
    #: Why it failed, if it did.
    failure: Failure | None
    #: The lines it logged, whether it succeeded or not.
    logs: list[LogLine]
    #: The progress it reported, whether it succeeded or not.
    progress: list[Progress]
    #: The jobs that its success created; none if it failed.
    enqueued: list[EnqueuedJob]


@dataclass(frozen=True)
class _Value:
    data: bytes
    expires_at_ms: float = float("inf")


@dataclass
class _Stored:
    values: dict[str, _Value]
    jobs: list[EnqueuedJob] = field(default_factory=list)
    ids_given: int = 0

    def copy(self) -> "_Stored":
        return _Stored(dict(self.values), list(self.jobs), self.ids_given)


class FakeHost:
    """Say what a handler shall find, run it, look at what it did.

        host = FakeHost(state={"greeted": 41})
        run = host.run(hello, {"name": "Ann"})
        assert run.output == {"greeting": "hello, Ann"}
        assert host.stored("greeted") == 42
    """

    def __init__(
        self,
        *,
        tenant: str = "acme",
        queue: str = "default",
        attempt: int = 1,
        max_attempts: int = 5,
        idempotency_key: str = "job-0",
        remaining: float = 30,
        stop_requested: StopReason | None = None,
        secrets: Mapping[str, str] | None = None,
        state: Mapping[str, object] | None = None,
        unknown_kinds: Iterable[str] = (),
        state_unavailable: str | None = None,
    ) -> None:
        """What a handler shall find.

        Secrets that aren't named are refused; so is the enqueueing of one of `unknown_kinds` without a queue.
        `state_unavailable` makes every state call fail for that reason.
        """
        self._facts = (tenant, queue, attempt, max_attempts, idempotency_key)
        self._remaining_ms = whole_ms(remaining)
        self._stop_requested = stop_requested
        self._secrets = dict(secrets or {})
        self._unknown_kinds = set(unknown_kinds)
        self._state_unavailable = state_unavailable
        self._now_ms: float = _NOW_MS
        self._stored = _Stored({key: _Value(encode(value)) for key, value in (state or {}).items()})

    def run(self, handler: Handler[Any, Any], payload: object) -> Run:
        """Runs a handler as one attempt of a job, from payload to output. What it wrote is stored if it succeeded."""
        before = len(self._stored.jobs)
        running = _Running(self, self._stored.copy())
        job = Job(self._facts[-1], handler.kind, encode(payload))
        try:
            data = handler.handle(running, job)
        except Exception as raised:
            return Run(None, None, to_failure(raised), running.logs, running.progress, [])
        self._stored = running.stored
        return Run(_value(data, None), data, None, running.logs, running.progress, self._stored.jobs[before:])

    def stored(self, key: str) -> Any:
        """What is stored under a key now; None if there is nothing."""
        value = self._stored.values.get(key)
        return None if value is None else decode(value.data)

    @property
    def jobs(self) -> list[EnqueuedJob]:
        """The jobs that all runs so far have created."""
        return list(self._stored.jobs)

    def advance(self, seconds: float) -> None:
        """Moves the clock: what was set for a time goes away."""
        self._now_ms += whole_ms(seconds)
        values = self._stored.values.items()
        self._stored.values = {key: value for key, value in values if value.expires_at_ms > self._now_ms}


class _Running:
    """The host as one run sees it: a copy, which a run that fails simply doesn't hand back."""

    def __init__(self, found: FakeHost, stored: _Stored) -> None:
        self.found = found
        self.stored = stored
        self.logs: list[LogLine] = []
        self.progress: list[Progress] = []

    def attempt_info(self) -> AttemptInfo:
        tenant, queue, attempt, max_attempts, key = self.found._facts
        deadline_ms = int(self.found._now_ms + self.found._remaining_ms)
        return AttemptInfo(tenant, queue, attempt, max_attempts, key, deadline_ms)

    def remaining_ms(self) -> int:
        return self.found._remaining_ms

    def stop_requested(self) -> StopReason | None:
        return self.found._stop_requested

    def log(self, level: Level, message: str, fields: list[tuple[str, str]]) -> None:
        self.logs.append(LogLine(level, message, dict(fields)))

    def report(self, done: int, total: int | None, message: str | None) -> None:
        self.progress.append(Progress(done, total, message))

    def enqueue(self, job: NewJob) -> str:
        if job.queue is None and job.kind in self.found._unknown_kinds:
            raise HostError("unknown-kind", f"no plugin of this tenant handles kind `{job.kind}`")
        self.stored.ids_given += 1
        id = f"job-{self.stored.ids_given}"
        key = (job.kind, job.unique_key)
        held = job.unique_key is not None and any((other.kind, other.unique_key) == key for other in self.stored.jobs)
        if not held:
            payload = _value(job.payload, job.payload)
            made = EnqueuedJob(id, job.kind, payload, job.queue, job.delay_ms, job.priority, job.unique_key)
            self.stored.jobs.append(made)
        return id

    def secret(self, name: str) -> str:
        try:
            return self.found._secrets[name]
        except KeyError:
            rule = f"secret `{name}` is not granted; add it to `secrets` of [grants] in the plugin's TOML"
            raise HostError("not-granted", rule) from None

    def state_get(self, key: str) -> bytes | None:
        value = self._value(key)
        return None if value is None else value.data

    def state_set(self, key: str, value: bytes, ttl_ms: int | None) -> None:
        self._value(key)
        self.stored.values[key] = self._lasting(value, ttl_ms)

    def state_delete(self, key: str) -> None:
        self._value(key)
        self.stored.values.pop(key, None)

    def state_increment(self, key: str, by: int) -> None:
        before = self._value(key) or _Value(b"0")
        try:
            number = int(before.data)
        except ValueError:
            number = None
        # A decimal integer as the runtime has it: no `+`, no leading zeros.
        if number is None or str(number).encode() != before.data or not -(2**63) <= number + by < 2**63:
            raise HostError("not-a-number", "not an integer, or past the range of 64 bits")
        self.stored.values[key] = _Value(str(number + by).encode(), before.expires_at_ms)

    def state_compare_and_set(self, key: str, expected: bytes | None, value: bytes, ttl_ms: int | None) -> bool:
        if self.state_get(key) != expected:
            return False
        self.stored.values[key] = self._lasting(value, ttl_ms)
        return True

    def _lasting(self, value: bytes, ttl_ms: int | None) -> _Value:
        return _Value(value) if ttl_ms is None else _Value(value, self.found._now_ms + ttl_ms)

    def _value(self, key: str) -> _Value | None:
        if self.found._state_unavailable is not None:
            raise HostError("unavailable", self.found._state_unavailable)
        if not 1 <= len(key.encode()) <= _KEY_LENGTH_MAX or any(ord(mark) < 32 or 127 <= ord(mark) < 160 for mark in key):
            raise HostError("invalid-key", "a state key is 1 to 256 bytes without control characters")
        return self.stored.values.get(key)


def _value(data: bytes, otherwise: Any) -> Any:
    try:
        return decode(data)
    except ValueError:
        return otherwise
