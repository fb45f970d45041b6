"""The real host, as a component sees it, and what the component exports.

Imported while the component is built, where `wit_world` is made from the contract; never in a test.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

# The standard library is there while a component is built, and not when it runs. These import more when they are first
# used, which then would be too late.
import _strptime  # type: ignore[import-not-found]  # noqa: F401
import encodings.ascii  # noqa: F401
import encodings.cp1252  # noqa: F401
import encodings.idna  # noqa: F401
import encodings.latin_1  # noqa: F401
import encodings.punycode  # noqa: F401
import encodings.utf_16  # noqa: F401
import encodings.utf_16_be  # noqa: F401
import encodings.utf_16_le  # noqa: F401
import encodings.utf_8_sig  # noqa: F401

import wit_world
from componentize_py_types import Err
from wit_world.imports import context, enqueue, log, progress, secrets, state, types

from ._failure import Failure, HostError, to_failure
from ._handler import dispatch
from ._http import HttpRequest, HttpResponse
from ._host import After, AttemptInfo, Debounced, Hold, Job, JobFacts, Level, NewJob, StopReason
from ._raised import describe

Value = TypeVar("Value")

# What sends requests, in a component that was built to.
send_http: Callable[[HttpRequest], HttpResponse] | None = None


class WitWorld(wit_world.WitWorld):
    """What the component exports."""

    def handle(self, job: types.Job) -> bytes:
        try:
            return dispatch(_Host(), Job(job.id, job.kind, job.payload))
        except MemoryError:
            # No failure to be tried again: what isn't one of the contract ends the run, and the host knows why.
            raise
        except Exception as raised:
            _log_raised(raised)
            raise Err(_to_wit(to_failure(raised))) from None


# Where an exception came from is seen nowhere else; a failure that the handler chose has said all.
def _log_raised(raised: Exception) -> None:
    if not isinstance(raised, (Failure, HostError)):
        message, stack = describe(raised)
        log.write(log.Level.ERROR, message, [("stack", stack)])


def _to_wit(failure: Failure) -> types.Failure:
    match failure.put_off:
        case ("snoozed", ms):
            return types.Failure_Snoozed(ms)
        case ("rate-limited", ms):
            return types.Failure_RateLimited(types.RateLimit(failure.downstream, ms))
        case ("unavailable", ms):
            return types.Failure_Unavailable(types.UnavailableService(failure.downstream or "", ms))
    if failure.permanent:
        return types.Failure_Permanent(str(failure))
    return types.Failure_Transient(types.TransientFailure(str(failure), failure.code, failure.retry_after_ms))


def _to_rule(rule: Hold | Debounced) -> enqueue.UniqueRule:
    if isinstance(rule, Debounced):
        return enqueue.UniqueRule_Debounce(enqueue.Debounce(rule.delay_ms, rule.longest_ms, rule.leading))
    until = enqueue.UniqueUntil[rule.until.upper()]
    return enqueue.UniqueRule_Hold(enqueue.Hold(until, rule.lasts_ms, rule.replaces))


class _Host:
    def attempt_info(self) -> AttemptInfo:
        info = context.attempt_info()
        return AttemptInfo(
            info.tenant, info.queue, info.attempt, info.max_attempts, info.idempotency_key, info.deadline_ms
        )

    def job_info(self) -> JobFacts:
        job = context.job_info()
        return JobFacts(job.enqueued_at_ms, job.content_type, job.group, job.labels, job.deadline_ms)

    def remaining_ms(self) -> int:
        return int(context.remaining_ms())

    def stop_requested(self) -> StopReason | None:
        match context.stop_requested():
            case context.StopReason.CANCELLED:
                return "cancelled"
            case context.StopReason.DRAINING:
                return "draining"
        return None

    def log(self, level: Level, message: str, fields: list[tuple[str, str]]) -> None:
        log.write(log.Level[level.upper()], message, fields)

    def report(self, done: int, total: int | None, message: str | None) -> None:
        progress.report(done, total, message)

    def enqueue(self, job: NewJob) -> str:
        ms = job.start.ms
        new = enqueue.NewJob(
            job.kind,
            job.payload,
            job.content_type,
            job.queue,
            job.group,
            enqueue.Start_After(ms) if isinstance(job.start, After) else enqueue.Start_At(ms),
            job.start_within_ms,
            job.deadline_ms,
            job.priority,
            job.labels,
            None if job.unique is None else enqueue.Unique(job.unique[0], _to_rule(job.unique[1])),
        )
        return _asked(lambda: enqueue.enqueue(new))

    def secret(self, name: str) -> str:
        return _asked(lambda: secrets.get(name))

    def path(self, path: str) -> Path:
        return Path(path)

    def http(self, request: HttpRequest) -> HttpResponse:
        if send_http is None:
            rule = "this component was built without HTTP: add `http = true` to [tool.sandhog] in pyproject.toml"
            raise HostError("failed", rule)
        return send_http(request)

    def state_get(self, key: str) -> bytes | None:
        return _asked(lambda: state.get(key))

    def state_set(self, key: str, value: bytes, ttl_ms: int | None) -> None:
        _asked(lambda: state.set(key, value, ttl_ms))

    def state_delete(self, key: str) -> None:
        _asked(lambda: state.delete(key))

    def state_increment(self, key: str, by: int) -> None:
        _asked(lambda: state.increment(key, by))

    def state_compare_and_set(self, key: str, expected: bytes | None, value: bytes, ttl_ms: int | None) -> bool:
        return _asked(lambda: state.compare_and_set(key, expected, value, ttl_ms)) == state.Swapped.YES


_CODES = {
    "InvalidKey": "invalid-key",
    "Limit": "limit",
    "NotANumber": "not-a-number",
    "Unavailable": "unavailable",
    "UnknownKind": "unknown-kind",
    "Invalid": "invalid",
    "NotGranted": "not-granted",
}


def _asked(call: Callable[[], Value]) -> Value:
    """A refusal of the host as an exception that a handler can look at."""
    try:
        return call()
    except Err as error:
        refusal: Any = error.value
        code = _CODES[type(refusal).__name__.partition("_")[2]]
        text = getattr(refusal, "value", "not an integer, or past the range of 64 bits")
        raise HostError(code, text) from None
