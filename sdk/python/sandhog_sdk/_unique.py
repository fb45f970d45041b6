"""Unique keys: for how long a job holds its key, and what becomes of one that comes while another holds it."""

from dataclasses import dataclass
from typing import Literal

UniqueUntil = Literal["settled", "started", "over"]


@dataclass(frozen=True)
class Unique:
    """A unique key, and how a job holds it. While one of the kind holds the key, no second one is created."""

    key: str
    #: What frees it: "settled", when the job has succeeded, is dead or cancelled; "started", already when it has started;
    #: "over", when its time is over, whatever becomes of the job.
    until: UniqueUntil = "settled"
    #: It is free after so many seconds in any case. "over" needs this.
    lasts: float | None = None
    #: Whether the job that holds it gets the payload of one that comes while it waits, if both say so.
    replaces: bool = False


@dataclass(frozen=True)
class Debounce:
    """The rule of a job that stands for many events. It may have no delay of its own."""

    #: The unique key.
    key: str
    #: It runs once no other has come for so many seconds, with the payload of the latest.
    delay: float
    #: It waits so many seconds from the first one at most; more than `delay`.
    longest: float
    #: Run the first one at once instead, and none of those that follow.
    leading: bool = False
