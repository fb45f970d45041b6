"""What stands behind a context: the real host in a component, a fake one in tests."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from ._http import HttpRequest, HttpResponse
from ._unique import UniqueUntil

Level = Literal["trace", "debug", "info", "warn", "error"]
StopReason = Literal["cancelled", "draining"]


@dataclass(frozen=True)
class AttemptInfo:
    """Facts about an attempt; they don't change while it runs."""

    tenant: str
    queue: str
    attempt: int
    max_attempts: int
    idempotency_key: str
    deadline_ms: int


@dataclass(frozen=True)
class JobFacts:
    """What is known of the job beside its id, kind and payload."""

    enqueued_at_ms: int
    content_type: str | None
    group: str | None
    labels: list[tuple[str, str]]
    deadline_ms: int | None


@dataclass(frozen=True)
class Job:
    """The work to be done."""

    id: str
    kind: str
    payload: bytes


@dataclass(frozen=True)
class After:
    """So long after it is created."""

    ms: int


@dataclass(frozen=True)
class At:
    """At a time, since 1970-01-01T00:00:00Z."""

    ms: int


@dataclass(frozen=True)
class Hold:
    """The rule of a unique key that a job holds."""

    until: UniqueUntil
    lasts_ms: int | None
    replaces: bool


@dataclass(frozen=True)
class Debounced:
    """The rule of the unique key of a job that waits for others with it."""

    delay_ms: int
    longest_ms: int
    leading: bool


@dataclass(frozen=True)
class NewJob:
    """A job to be created when this one succeeds."""

    kind: str
    payload: bytes
    content_type: str | None
    queue: str | None
    group: str | None
    start: After | At
    start_within_ms: int | None
    deadline_ms: int | None
    priority: int
    labels: list[tuple[str, str]]
    unique: tuple[str, Hold | Debounced] | None


class Host(Protocol):
    """The calls of the contract. A refusal is a `HostError`."""

    def attempt_info(self) -> AttemptInfo: ...
    def job_info(self) -> JobFacts: ...
    def remaining_ms(self) -> int: ...
    def stop_requested(self) -> StopReason | None: ...
    def log(self, level: Level, message: str, fields: list[tuple[str, str]]) -> None: ...
    def report(self, done: int, total: int | None, message: str | None) -> None: ...
    def enqueue(self, job: NewJob) -> str: ...
    def secret(self, name: str) -> str: ...
    def path(self, path: str) -> Path: ...
    def http(self, request: HttpRequest) -> HttpResponse: ...
    def state_get(self, key: str) -> bytes | None: ...
    def state_set(self, key: str, value: bytes, ttl_ms: int | None) -> None: ...
    def state_delete(self, key: str) -> None: ...
    def state_increment(self, key: str, by: int) -> None: ...
    def state_compare_and_set(self, key: str, expected: bytes | None, value: bytes, ttl_ms: int | None) -> bool: ...
