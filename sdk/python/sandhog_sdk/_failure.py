"""How a handler gives up, and what any other exception means."""

import copy
import math
from datetime import timedelta
from typing import Literal


class Failure(Exception):
    """Why a handler gave up. The message is kept with the job and shown to people: put no secret in it.

    Made by `permanent`, `retry_after`, `transient`, `snooze`, `rate_limited` and `unavailable`, and raised.
    """

    def __init__(
        self,
        message: str,
        *,
        permanent: bool = False,
        code: str | None = None,
        retry_after_ms: int | None = None,
        put_off: tuple[Literal["snoozed", "rate-limited", "unavailable"], int] | None = None,
        downstream: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        #: Whether trying again can't help: the job becomes a dead letter at once.
        self.permanent = permanent
        #: The wait before the next try, in milliseconds, instead of the retry policy's.
        self.retry_after_ms = retry_after_ms
        #: The kind of failure, for the rules of the retry policy to go by.
        self.code = code
        #: Why the job is put off, and for how many milliseconds, if it is: that is no failure, and the attempt doesn't count.
        self.put_off = put_off
        #: The service that takes no more calls or is unavailable, if it is named.
        self.downstream = downstream


class HostError(Exception):
    """A refusal of the host. Not caught, it means that the job is tried again.

    `code` is, of secrets, `not-granted`; of state, `invalid-key`, `limit`, `not-a-number`, `unavailable`,
    `invalid-value`; of jobs, `unknown-kind`, `invalid`, `limit`; of HTTP, `not-granted`, `invalid`, `failed`.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def permanent(message: str) -> Failure:
    """A failure that trying again can't mend: the job becomes a dead letter at once."""
    return Failure(message, permanent=True)


def transient(message: str, *, code: str | None = None) -> Failure:
    """A failure that may go away by itself; any other exception that is raised means the same.

    `code` is the kind of failure, such as `smtp-421`, for the rules of the retry policy to go by: 1 to 63 of a-z, 0-9, `.`,
    `_`, `-`, starting with a letter or digit.
    """
    return Failure(message, code=code)


def retry_after(wait: float | timedelta, message: str, *, code: str | None = None) -> Failure:
    """A failure that may go away by itself, and is worth another try after this time (in seconds, if it is a number)."""
    return Failure(message, code=code, retry_after_ms=_wait_ms(wait))


def snooze(wait: float | timedelta) -> Failure:
    """It is too early: the job is run again after this time (in seconds, if it is a number), and this attempt doesn't count.

    The time is at least a second and at most the policy's `retry_after_max`. A job that has been started 10,000 times is put
    off no more: this then counts as a failure.
    """
    return Failure("snoozed", put_off=("snoozed", _wait_ms(wait)))


def rate_limited(wait: float | timedelta, downstream: str | None = None) -> Failure:
    """What the handler calls takes no more calls now: as `snooze`, and told apart from it.

    With the name of a service that the plugin's `calls` has, all jobs that call it wait.
    """
    return Failure("rate-limited", put_off=("rate-limited", _wait_ms(wait)), downstream=downstream)


def unavailable(downstream: str, wait: float | timedelta = 10) -> Failure:
    """A service that the plugin's `calls` has doesn't answer, or can't do what it was asked for: `raise unavailable("stripe")`.

    The job is run again after so many seconds, and this attempt doesn't count. If that happens to many jobs, the service's
    circuit breaker opens, and jobs that call it wait.
    """
    return Failure("unavailable", put_off=("unavailable", _wait_ms(wait)), downstream=downstream)


def _wait_ms(wait: float | timedelta) -> int:
    return whole_ms(wait.total_seconds() if isinstance(wait, timedelta) else wait)


# A hundred years.
_SECONDS_MAX = 3_155_760_000


def whole_ms(seconds: float) -> int:
    """Whole milliseconds; a part of one counts as one."""
    if not 0 <= seconds <= _SECONDS_MAX:
        raise ValueError(f"a time is 0 to {_SECONDS_MAX} seconds, not {seconds}")
    return math.ceil(seconds * 1000)


def to_failure(raised: BaseException) -> Failure:
    """The failure that anything raised comes to."""
    message = ": ".join(_describe(error) for error in _with_causes(raised))
    if isinstance(raised, Failure):
        failure = copy.copy(raised)
        failure.args, failure.message = (message,), message
        return failure
    return Failure(message)


def _with_causes(raised: BaseException) -> list[BaseException]:
    errors: list[BaseException] = []
    error: BaseException | None = raised
    while error is not None and error not in errors:
        errors.append(error)
        error = error.__cause__
    return errors


def _describe(error: BaseException) -> str:
    if isinstance(error, (Failure, HostError)) or type(error) is Exception:
        return str(error)
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
