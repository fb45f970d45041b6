"""A host for unit tests, with no daemon and no Wasm: it keeps the promises of the real one that a handler can see.

A run's log, progress and files are seen at once; its state writes and jobs are written only if the handler succeeds. Time
stands still until the test moves it. Left out: limits of fuel, memory, time on the processor and log, and other jobs at the
same time.
"""

import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Unpack
from unittest import mock

from ._codec import decode, encode
from ._context import NewJobOptions, new_job
from ._fake.assertions import ANY, find, missing, unwanted
from ._fake.effects import Effects, Stored, Value
from ._fake.files import Files
from ._fake.http import HttpReply, HttpTable, Replies
from ._fake.jobs import Created, EnqueuedJob, Jobs, JobState, value_of
from ._failure import Failure, HostError, to_failure, whole_ms
from ._handler import Handler
from ._host import After, AttemptInfo, Debounced, Hold, Job, JobFacts, Level, NewJob, StopReason
from ._http import HttpRequest, HttpResponse

__all__ = [
    "Attempt",
    "EnqueuedJob",
    "FakeHost",
    "HttpReply",
    "JobState",
    "Limits",
    "LogLine",
    "Progress",
    "Run",
    "assert_enqueued",
    "assert_not_enqueued",
]

# When the clock of a new host stands still: a day in 2025, in milliseconds.
_NOW_MS = 1_750_000_000_000
_KEY_LENGTH_MAX = 256
_LABELS_MAX = 16

# Attempts that one call of `drain` runs at most: jobs that enqueue jobs without end are a mistake that a test should see.
_ATTEMPTS_MAX = 1_000

# The waits between attempts: those of a plugin whose TOML sets none, without their jitter.
_BACKOFF_BASE_MS = 2_000
_BACKOFF_MAX_MS = 600_000

# The shortest time for which a handler puts its job off.
_PUT_OFF_MIN_MS = 1_000

# The longest wait that a handler may ask for.
_RETRY_AFTER_MAX_MS = 24 * 60 * 60 * 1000


@dataclass(frozen=True)
class Limits:
    """The limits that a fake host keeps; by default those of a plugin whose TOML sets none."""

    #: The payload of a job that is enqueued, in bytes; more is refused.
    payload: int = 10 << 10
    #: Jobs that a run enqueues; one more is refused, and a run that then fails does so for good.
    enqueues: int = 5_000
    #: State keys that a run writes; likewise.
    state_writes: int = 5_000
    #: State writes and jobs of a run together, in bytes; past it, the run fails for good.
    effects: int = 1 << 20
    #: The output, in bytes; past it, the run fails for good.
    output: int = 1 << 20


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
class Run:
    """What a run did."""

    #: The value of the output's JSON; None if the run failed, or the output is no JSON.
    output: Any
    #: The output as it is kept with the job; None if the run failed.
    data: bytes | None
    #: Why it failed, if it did: by its handler, past its deadline, past a limit, or as its state writes can't be written.
    failure: Failure | None
    #: The lines it logged, whether it succeeded or not.
    logs: list[LogLine]
    #: The progress it reported, whether it succeeded or not.
    progress: list[Progress]
    #: The requests it sent, whether it succeeded or not.
    requests: list[HttpRequest]
    #: The jobs that its success created; none if it failed.
    enqueued: list[EnqueuedJob]


@dataclass(frozen=True)
class Attempt:
    """One attempt of a job."""

    #: The job as it was after this attempt: its `attempts` say which it was, unless it was put off, its `state` what became of it.
    job: EnqueuedJob
    #: The time by the host's clock at which it began, since the call, in seconds.
    at: float
    #: What it did.
    run: Run


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
        job_id: str | None = None,
        content_type: str | None = None,
        group: str | None = None,
        labels: Mapping[str, str] | None = None,
        attempt: int = 1,
        max_attempts: int = 5,
        remaining: float = 30,
        stop_requested: StopReason | None = None,
        secrets: Mapping[str, str] | None = None,
        env: Mapping[str, str] | None = None,
        dirs: Iterable[str] = (),
        files: Mapping[str, str | bytes] | None = None,
        http: Mapping[str, Replies] | None = None,
        state: Mapping[str, object] | None = None,
        unknown_kinds: Iterable[str] = (),
        state_unavailable: str | None = None,
        limits: Limits | None = None,
    ) -> None:
        """What a handler shall find.

        `run` runs attempts of the job `job_id`; without it, each run is one of a job of its own. `content_type`, `group` and
        `labels` are what its producer gave it. An attempt that is past its
        deadline when its handler returns, `remaining` seconds from its beginning by the host's clock, is timed out.

        While a handler runs, `os.environ` has `env` and nothing else. `dirs` are granted folders, by their names in the
        sandbox, and `files` are files by path; if no folder is granted that one is in, its own is. `ctx.path` leads there.

        `http` has replies by `METHOD URL`. The URL may end in `*`, for all that begin like it, and the method may be `*`;
        the most exact one counts. A list of replies is given out one after the other, the last one to all that follow; a
        callable is given the request. What has no reply is refused, as a host that isn't granted.

        Secrets that aren't named are refused; so is the enqueueing of one of `unknown_kinds` without a queue.
        `state_unavailable` makes every look at what is stored fail for that reason; writes are held back until the end.
        """
        self._tenant, self._queue, self._job_id = tenant, queue, job_id
        self._given = (content_type, group, sorted((labels or {}).items()))
        self._attempt, self._max_attempts = attempt, max_attempts
        self._remaining_ms = whole_ms(remaining)
        self._stop_requested = stop_requested
        self._secrets = dict(secrets or {})
        self._env = dict(env or {})
        self._files = Files(dirs, files or {})
        self._http = HttpTable(http or {})
        self._unknown_kinds = set(unknown_kinds)
        self._state_unavailable = state_unavailable
        self._limits = limits or Limits()
        self._now_ms: float = _NOW_MS
        self._jobs = Jobs()
        self._ids_given = 0
        self._stored = Stored()
        for key, value in (state or {}).items():
            self._stored.put(key, Value(encode(value)))

    def run(self, handler: Handler[Any, Any], payload: object) -> Run:
        """Runs a handler as one attempt of a job, from payload to output. What it wrote is stored if it succeeded."""
        job = Job(self._job_id or self._next_id(), handler.kind, encode(payload))
        facts = JobFacts(int(self._now_ms), *self._given, deadline_ms=None)
        return self._attempted(handler, job, facts, self._queue, self._attempt)

    def enqueue(self, kind: str, payload: object, **options: Unpack[NewJobOptions]) -> str:
        """Enqueues a job as a producer does, for `drain` to run.

        Returns its id; that of the job which holds its unique key, if there is one.
        """
        new = self._checked(new_job(kind, payload, options))
        return self._jobs.create(Created(self._next_id(), new), self._now_ms)

    def drain(self, handlers: Sequence[Handler[Any, Any]], *, seconds: float | None = None) -> list[Attempt]:
        """Runs the jobs that wait, and those that they enqueue, until none of these handlers' kinds is left.

        With `seconds`, it runs those that become due within that time. Returns every attempt, in order.

        A job that fails is tried again after its wait, as often as `max_attempts` says. Nothing sleeps: the clock moves to
        when the next job is due. The wait is what the handler asked for, or else that of a plugin whose TOML sets no
        policy, without jitter: 2 s, 4 s, 8 s, up to 10 minutes. Jobs run one after the other, those that are due by
        priority, and then by age. Jobs of other kinds go on waiting. Groups are known to the handler, and no rule for them is
        kept. If jobs are still waiting after 1,000 attempts, it
        raises `RuntimeError`.
        """
        by_kind = {handler.kind: handler for handler in handlers}
        begun = self._now_ms
        until = math.inf if seconds is None else begun + whole_ms(seconds)
        attempts: list[Attempt] = []
        while (job := self._jobs.next(self._now_ms, by_kind.__contains__)) and self._jobs.due_of(job.id) <= until:
            if len(attempts) == _ATTEMPTS_MAX:
                still = f"jobs still wait, the next of kind `{job.kind}`: do they enqueue each other without end?"
                raise RuntimeError(f"drain: after {_ATTEMPTS_MAX} attempts {still}")
            self._now_ms = max(self._now_ms, self._jobs.due_of(job.id))
            if self._jobs.expire(job.id, self._now_ms):
                continue
            at = (self._now_ms - begun) / 1000
            run = self._attempt_of(job.id, by_kind[job.kind])
            attempts.append(Attempt(self._jobs.get(job.id), at, run))
        if seconds is not None:
            self._now_ms = max(self._now_ms, until)
        return attempts

    def cancel(self, id: str) -> None:
        """Cancels a job that waits; its unique key is free. One that is final stays what it is."""
        if self._jobs.get(id).state == "waiting":
            self._jobs.change(id, state="cancelled")

    def stored(self, key: str) -> Any:
        """What is stored under a key now; None if there is nothing."""
        data = self._stored.data(key, self._now_ms)
        return None if data is None else decode(data)

    def path(self, path: str) -> Path:
        """Where a path of the sandbox is, for looking at what a handler has written: what `ctx.path` gives it."""
        return self._files.path(path)

    @property
    def jobs(self) -> list[EnqueuedJob]:
        """All jobs: those that runs so far have created, and those of `enqueue`."""
        return self._jobs.all()

    def advance(self, seconds: float) -> None:
        """Moves the clock.

        What was set for a time goes away, what was enqueued with a delay may run; in the midst of a run, less is left of it.
        """
        self._now_ms += whole_ms(seconds)

    def _next_id(self) -> str:
        self._ids_given += 1
        return f"job-{self._ids_given}"

    def _attempt_of(self, id: str, handler: Handler[Any, Any]) -> Run:
        job = self._jobs.tried(id)
        attempt = job.attempts
        queue = self._queue if job.queue is None else job.queue
        run = self._attempted(handler, Job(id, job.kind, job.data), self._jobs.facts_of(id), queue, attempt)
        failure = run.failure
        if failure is not None and failure.put_off is not None:
            wait_ms = max(min(failure.put_off[1], _RETRY_AFTER_MAX_MS), _PUT_OFF_MIN_MS)
            self._jobs.put_off(id, self._now_ms + wait_ms)
        elif failure is not None and (failure.permanent or attempt >= self._max_attempts):
            self._jobs.change(id, state="dead")
        elif failure is not None:
            backoff_ms = min(_BACKOFF_BASE_MS * 2 ** (attempt - 1), _BACKOFF_MAX_MS)
            wait_ms = backoff_ms if failure.retry_after_ms is None else failure.retry_after_ms
            self._jobs.retry(id, self._now_ms + min(wait_ms, _RETRY_AFTER_MAX_MS))
        return run

    def _attempted(self, handler: Handler[Any, Any], job: Job, facts: JobFacts, queue: str, attempt: int) -> Run:
        """One attempt: runs the handler, and writes what it wants written if it succeeded."""
        deadline_ms = self._now_ms + self._remaining_ms
        if facts.deadline_ms is not None:
            deadline_ms = min(deadline_ms, facts.deadline_ms)
        info = AttemptInfo(self._tenant, queue, attempt, self._max_attempts, job.id, int(deadline_ms))
        running = _Running(self, info, facts, deadline_ms)
        data, failure = b"", None
        with mock.patch.dict(os.environ, self._env, clear=True):
            try:
                data = handler.handle(running, job)
            except Exception as raised:
                failure = to_failure(raised)
        failure = running.why_failed(data, failure)
        if failure is not None:
            return Run(None, None, failure, running.logs, running.progress, running.requests, [])
        before = len(self._jobs.all())
        running.effects.write(self._now_ms)
        # Its own unique key is free before its jobs are created.
        if any(known.id == job.id for known in self._jobs.all()):
            self._jobs.change(job.id, state="succeeded")
        for created in running.effects.jobs:
            self._jobs.create(created, self._now_ms)
        seen = (running.logs, running.progress, running.requests)
        return Run(value_of(data, None), data, None, *seen, self._jobs.all()[before:])

    def _checked(self, new: NewJob) -> NewJob:
        """A job that the host would create."""
        of_name = "of a-z, 0-9, `.`, `_`, `-`, starting with a letter or digit"
        if not _is_name(new.kind, 127):
            raise _invalid("kind", new.kind, f"1 to 127 {of_name}")
        if new.queue is not None and not _is_name(new.queue, 63):
            raise _invalid("queue", new.queue, f"1 to 63 {of_name}")
        if new.group is not None and not _is_key(new.group, 128):
            raise _invalid("group", new.group, "1 to 128 bytes without control characters")
        if new.content_type is not None and not _is_content_type(new.content_type):
            rule = "a type and a subtype with `/` between them, at most 127 visible characters of ASCII and spaces"
            raise _invalid("content type", new.content_type, rule)
        if len(new.labels) > _LABELS_MAX:
            raise HostError("invalid", f"a job has at most {_LABELS_MAX} labels")
        for name, value in new.labels:
            if not _is_name(name, 63):
                raise _invalid("label name", name, f"1 to 63 {of_name}")
            if value and not _is_key(value, 255):
                raise _invalid("label value", value, "at most 255 bytes without control characters")
        if new.unique is not None:
            _check_unique(*new.unique, new.start == After(0))
        if new.queue is None and new.kind in self._unknown_kinds:
            problem = f"no plugin of this tenant handles kind `{new.kind}`, and no queue was named"
            raise HostError("unknown-kind", problem)
        if len(new.payload) > self._limits.payload:
            problem = f"a payload of {len(new.payload)} bytes is larger than limits.payload of {self._limits.payload}"
            raise HostError("limit", problem)
        return replace(new, labels=sorted(new.labels))


class _Running:
    """The host as one run sees it."""

    def __init__(self, host: FakeHost, info: AttemptInfo, facts: JobFacts, deadline_ms: float) -> None:
        self.host = host
        self.info = info
        self.facts = facts
        self.deadline_ms = deadline_ms
        self.effects = Effects(host._stored)
        self.logs: list[LogLine] = []
        self.progress: list[Progress] = []
        self.requests: list[HttpRequest] = []
        # The limit that was hit, and whether the run fails for it whatever its handler makes of it.
        self._exceeded: tuple[str, bool] | None = None

    def why_failed(self, data: bytes, failure: Failure | None) -> Failure | None:
        host = self.host
        if host._now_ms > self.deadline_ms:
            return Failure(f"timed out after {host._remaining_ms / 1000:g} s; raise limits.timeout")
        if self._exceeded is not None and (failure is not None or self._exceeded[1]):
            return Failure(self._exceeded[0], permanent=True)
        if failure is not None:
            return failure
        if len(data) > host._limits.output:
            return Failure(f"output larger than {host._limits.output} bytes; raise limits.output", permanent=True)
        key = self.effects.conflict(host._now_ms)
        if key is None:
            return None
        return Failure(f"state `{key}` was changed by another job before this one could settle")

    def attempt_info(self) -> AttemptInfo:
        return self.info

    def job_info(self) -> JobFacts:
        return self.facts

    def remaining_ms(self) -> int:
        return max(int(self.deadline_ms - self.host._now_ms), 0)

    def stop_requested(self) -> StopReason | None:
        return self.host._stop_requested

    def log(self, level: Level, message: str, fields: list[tuple[str, str]]) -> None:
        self.logs.append(LogLine(level, message, dict(fields)))

    def report(self, done: int, total: int | None, message: str | None) -> None:
        self.progress.append(Progress(done, total, message))

    def enqueue(self, job: NewJob) -> str:
        enqueues_max = self.host._limits.enqueues
        if len(self.effects.jobs) >= enqueues_max:
            raise self._exceed(f"enqueued more than {enqueues_max} jobs; raise limits.enqueues", always=False)
        created = Created(self.host._next_id(), self.host._checked(job))
        self.effects.jobs.append(created)
        self._check_size()
        return created.id

    def secret(self, name: str) -> str:
        try:
            return self.host._secrets[name]
        except KeyError:
            line = f'add `secrets = ["{name}"]` under [grants] of the plugin\'s TOML'
            raise HostError("not-granted", f"secret `{name}` is not granted; {line}") from None

    def path(self, path: str) -> Path:
        return self.host._files.path(path)

    def http(self, request: HttpRequest) -> HttpResponse:
        self.requests.append(request)
        return self.host._http.reply(request)

    def state_get(self, key: str) -> bytes | None:
        _check_key(key)
        if self.host._state_unavailable is not None and self.effects.rests_on_stored(key):
            raise HostError("unavailable", self.host._state_unavailable)
        return self.effects.read(key, self.host._now_ms)

    def state_set(self, key: str, value: bytes, ttl_ms: int | None) -> None:
        self._check_write(key)
        self.effects.set(key, value, ttl_ms)
        self._check_size()

    def state_delete(self, key: str) -> None:
        self._check_write(key)
        self.effects.delete(key)

    def state_increment(self, key: str, by: int) -> None:
        self._check_write(key)
        self.effects.increment(key, by)
        self._check_size()

    def state_compare_and_set(self, key: str, expected: bytes | None, value: bytes, ttl_ms: int | None) -> bool:
        if self.state_get(key) != expected:
            return False
        self._check_write(key)
        self.effects.swap(key, value, ttl_ms, self.host._now_ms)
        self._check_size()
        return True

    def _check_write(self, key: str) -> None:
        _check_key(key)
        keys_max = self.host._limits.state_writes
        if self.effects.keys >= keys_max and not self.effects.is_written(key):
            raise self._exceed(f"wrote more than {keys_max} keys; raise limits.state_writes", always=False)

    def _check_size(self) -> None:
        size_max = self.host._limits.effects
        if self.effects.size > size_max:
            limit = f"state writes and enqueued jobs larger than {size_max} bytes; raise limits.effects"
            raise self._exceed(limit, always=True)

    def _exceed(self, limit: str, *, always: bool) -> HostError:
        if self._exceeded is None or not self._exceeded[1]:
            self._exceeded = (limit, always)
        return HostError("limit", limit)


def assert_enqueued(of: Run | FakeHost, kind: str, payload: Any = ANY) -> EnqueuedJob:
    """Asserts that a job of a kind was enqueued, by a run or by all runs of a host, and returns it.

    `payload` is what its payload has at least, or a callable that says whether it is the one. Where there is none, the
    message lists what was enqueued.
    """
    __tracebackhide__ = True
    jobs = _enqueued(of)
    found = find(jobs, kind, payload)
    if found is None:
        raise AssertionError(missing(jobs, kind, payload))
    return found


def assert_not_enqueued(of: Run | FakeHost, kind: str, payload: Any = ANY) -> None:
    """Asserts that no job of a kind was enqueued, or none with such a payload. See `assert_enqueued`."""
    __tracebackhide__ = True
    found = find(_enqueued(of), kind, payload)
    if found is not None:
        raise AssertionError(unwanted(found))


def _enqueued(of: Run | FakeHost) -> list[EnqueuedJob]:
    return of.enqueued if isinstance(of, Run) else of.jobs


def _check_key(key: str) -> None:
    if not _is_key(key, _KEY_LENGTH_MAX):
        raise HostError("invalid-key", "a state key is 1 to 256 bytes without control characters")


def _check_unique(key: str, rule: Hold | Debounced, starts_at_once: bool) -> None:
    if not _is_key(key, _KEY_LENGTH_MAX):
        raise _invalid("unique key", key, "1 to 256 bytes without control characters")
    if isinstance(rule, Hold):
        if rule.until == "over" and rule.lasts_ms is None:
            raise HostError("invalid", "a unique key that is held until its time is over needs that time")
        return
    if not starts_at_once:
        raise HostError("invalid", "a debounced job starts by the rule of its unique key, and at no other time")
    if rule.delay_ms >= rule.longest_ms:
        raise HostError("invalid", "the delay of a debounced job has to be shorter than its longest wait")


def _is_key(key: str, length_max: int) -> bool:
    is_control = any(ord(mark) < 32 or 127 <= ord(mark) < 160 for mark in key)
    return 1 <= len(key.encode()) <= length_max and not is_control


def _is_content_type(text: str) -> bool:
    parts = text.partition("/")
    is_visible = all(" " <= mark <= "~" for mark in text)
    return len(text) <= 127 and is_visible and all(part and part == part.strip(" ") for part in (parts[0], parts[2]))


def _is_name(text: str, length_max: int) -> bool:
    return len(text) <= length_max and re.fullmatch("[a-z0-9][a-z0-9._-]*", text) is not None


def _invalid(what: str, value: str, rule: str) -> HostError:
    return HostError("invalid", f"`{value}` is not a valid {what}: {rule}")
