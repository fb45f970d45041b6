"""What a run wants written, held back until it succeeds: reads lay it over what is stored.

`set`, `delete` and `increment` are blind, as on the real host: what an increment meets is known when it is written.
"""

from dataclasses import dataclass, field, replace

from .._failure import HostError
from .._host import NewJob
from .jobs import Created

FOR_EVER = float("inf")


@dataclass(frozen=True)
class Value:
    """A stored value. What has expired is there until it is asked for."""

    data: bytes
    expires_at_ms: float = FOR_EVER


class Stored:
    """What is stored, by key."""

    def __init__(self) -> None:
        self._values: dict[str, Value] = {}

    def get(self, key: str, now_ms: float) -> Value | None:
        value = self._values.get(key)
        return value if value is not None and now_ms < value.expires_at_ms else None

    def data(self, key: str, now_ms: float) -> bytes | None:
        value = self.get(key, now_ms)
        return None if value is None else value.data

    def put(self, key: str, value: Value | None) -> None:
        if value is None:
            self._values.pop(key, None)
        else:
            self._values[key] = value


@dataclass(frozen=True)
class _Set:
    data: bytes | None
    ttl_ms: int | None = None


@dataclass(frozen=True)
class _Add:
    by: int


@dataclass
class Effects:
    """The writes, expectations and jobs of one run."""

    stored: Stored
    jobs: list[Created] = field(default_factory=list)
    _writes: dict[str, _Set | _Add] = field(default_factory=dict)
    _expectations: dict[str, bytes | None] = field(default_factory=dict)

    def rests_on_stored(self, key: str) -> bool:
        """Whether what is stored matters to what the run sees of a key."""
        return not isinstance(self._writes.get(key), _Set)

    def is_written(self, key: str) -> bool:
        return key in self._writes

    @property
    def keys(self) -> int:
        return len(self._writes)

    def read(self, key: str, now_ms: float) -> bytes | None:
        """What the run sees of a key."""
        match self._writes.get(key):
            case None:
                return self.stored.data(key, now_ms)
            case _Add(by):
                return _added(self.stored.data(key, now_ms), by)
            case _Set(data):
                return data

    def set(self, key: str, data: bytes, ttl_ms: int | None) -> None:
        self._writes[key] = _Set(data, ttl_ms)

    def delete(self, key: str) -> None:
        self._writes[key] = _Set(None)

    def increment(self, key: str, by: int) -> None:
        match self._writes.get(key):
            case None:
                self._writes[key] = _Add(by)
            case _Add(before):
                self._writes[key] = _Add(_in_range(before + by))
            case _Set(data) as before_set:
                self._writes[key] = replace(before_set, data=_added(data, by))

    def swap(self, key: str, data: bytes, ttl_ms: int | None, now_ms: float) -> None:
        if self.rests_on_stored(key):
            self._expectations.setdefault(key, self.stored.data(key, now_ms))
        self.set(key, data, ttl_ms)

    @property
    def size(self) -> int:
        """Keys, values and jobs together, in bytes."""

        def written(write: _Set | _Add) -> int:
            return 8 if isinstance(write, _Add) else len(write.data or b"")

        return (
            sum(len(key.encode()) + written(write) for key, write in self._writes.items())
            + sum(len(key.encode()) + len(value or b"") for key, value in self._expectations.items())
            + sum(_size_of(job.new) for job in self.jobs)
        )

    def conflict(self, now_ms: float) -> str | None:
        """The first key on which they can't be written."""
        for key, expected in sorted(self._expectations.items()):
            if self.stored.data(key, now_ms) != expected:
                return key
        for key, write in sorted(self._writes.items(), key=lambda item: item[0]):
            if isinstance(write, _Add):
                try:
                    _added(self.stored.data(key, now_ms), write.by)
                except HostError:
                    return key
        return None

    def write(self, now_ms: float) -> None:
        """Writes what there is no conflict of; the jobs are left."""
        for key, write in self._writes.items():
            before = self.stored.get(key, now_ms)
            match write:
                case _Add(by):
                    data = _added(None if before is None else before.data, by)
                    self.stored.put(key, Value(data, FOR_EVER if before is None else before.expires_at_ms))
                case _Set(None) | _Set(_, 0):
                    self.stored.put(key, None)
                case _Set(bytes() as data, ttl_ms):
                    self.stored.put(key, Value(data, FOR_EVER if ttl_ms is None else now_ms + ttl_ms))


def _size_of(job: NewJob) -> int:
    texts = (job.kind, job.group or "", job.content_type or "", *(text for label in job.labels for text in label))
    return sum(len(text.encode()) for text in texts) + len(job.payload)


def _added(data: bytes | None, by: int) -> bytes:
    """The sum with a decimal integer as the runtime has it: no `+`, no leading zeros; a missing one counts as 0."""
    if data is None:
        return str(_in_range(by)).encode()
    try:
        number = int(data)
    except ValueError:
        raise _no_number() from None
    if str(number).encode() != data:
        raise _no_number()
    return str(_in_range(_in_range(number) + by)).encode()


def _in_range(number: int) -> int:
    if not -(2**63) <= number < 2**63:
        raise _no_number()
    return number


def _no_number() -> HostError:
    return HostError("not-a-number", "not an integer, or past the range of 64 bits")
