"""Unique keys of a fake host, by the rules of the real one."""

from dataclasses import dataclass

from .._host import Debounced, Hold

_DAY_MS = 24 * 60 * 60 * 1000

# Time after its longest wait at which the key of a debounced job is free in any case.
_FALLBACK_MS = _DAY_MS

# The longest time for which a key is held.
_HOLD_MAX_MS = 400 * _DAY_MS

_FOR_EVER = float("inf")


@dataclass
class KeyHold:
    """How a job holds its key. Times are those of the host's clock."""

    job: str
    hold: Hold
    ends_ms: float
    #: When later jobs put nothing off any more; None if they never do.
    deadline_ms: float | None

    def is_in_force(self, state: str, has_started: bool, now_ms: float) -> bool:
        """Whether the key is still held, by the state of its job and by its time."""
        waits = state == "waiting" and (self.hold.until == "settled" or not has_started)
        return (self.hold.until == "over" or waits) and now_ms < self.ends_ms


@dataclass(frozen=True)
class Clash:
    """What a job does to the one that holds its key."""

    #: Whether that one gets its payload.
    replaces: bool
    #: When that one is due from now on.
    due_ms: float | None = None
    #: When the key is free.
    ends_ms: float | None = None


def delay_of(rule: Hold | Debounced | None) -> int | None:
    """How long a job waits for others with its key; None if it doesn't."""
    return rule.delay_ms if isinstance(rule, Debounced) and not rule.leading else None


def hold_of(job: str, rule: Hold | Debounced, now_ms: float) -> KeyHold:
    """How a job holds its key that is created now."""
    hold = _terms(rule)
    ends = _FOR_EVER if hold.lasts_ms is None else now_ms + min(hold.lasts_ms, _HOLD_MAX_MS)
    deadline = now_ms + rule.longest_ms if isinstance(rule, Debounced) else None
    return KeyHold(job, hold, ends, deadline)


def clash_of(rule: Hold | Debounced, held: KeyHold, waits: bool, now_ms: float) -> Clash:
    """What a job of this rule does to the one that holds its key, and waits or not."""
    replaces = waits and _is_replaceable(held.hold) and _is_replaceable(_terms(rule))
    if not isinstance(rule, Debounced):
        return Clash(replaces)
    put_off = None if held.deadline_ms is None else min(now_ms + rule.delay_ms, held.deadline_ms)
    if held.hold.until == "over":
        return Clash(replaces=False, ends_ms=put_off)
    return Clash(replaces, due_ms=put_off if replaces else None)


def _terms(rule: Hold | Debounced) -> Hold:
    if isinstance(rule, Hold):
        return rule
    if rule.leading:
        return Hold("over", rule.delay_ms, replaces=False)
    return Hold("started", rule.longest_ms + _FALLBACK_MS, replaces=True)


def _is_replaceable(hold: Hold) -> bool:
    return hold.replaces and hold.until != "over"
