"""How a handler gives up, and what any other exception means."""

import math
from datetime import timedelta


class Failure(Exception):
    """Why a handler gave up. The message is kept with the job and shown to people: put no secret in it.

    Made by `permanent`, `retry_after` and `transient`, and raised.
    """

    def __init__(self, message: str, *, permanent: bool = False, retry_after_ms: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        #: Whether trying again can't help: the job becomes a dead letter at once.
        self.permanent = permanent
        #: The wait before the next try, in milliseconds, instead of the retry policy's.
        self.retry_after_ms = retry_after_ms


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


def transient(message: str) -> Failure:
    """A failure that may go away by itself; any other exception that is raised means the same."""
    return Failure(message)


def retry_after(wait: float | timedelta, message: str) -> Failure:
    """A failure that may go away by itself, and is worth another try after this time (in seconds, if it is a number)."""
    seconds = wait.total_seconds() if isinstance(wait, timedelta) else wait
    return Failure(message, retry_after_ms=whole_ms(seconds))


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
        return Failure(message, permanent=raised.permanent, retry_after_ms=raised.retry_after_ms)
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
