"""A secret that doesn't show itself by accident."""

from typing import NoReturn

_NO_TEXT = "a secret is no text: `.expose()` gives its value, to be handed to whoever it is for"


class Secret:
    """The value of a secret. In a log, a traceback or a `repr` it is `Secret(…)`; made into text it raises `TypeError`."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def expose(self) -> str:
        """The value, to be handed to whoever it is for. Keep it out of logs, failures, outputs and payloads."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(…)"

    # Text that is made of it without asking would be a secret where nobody looks for one, or not the one that was meant.
    def __str__(self) -> NoReturn:
        raise TypeError(_NO_TEXT)

    def __format__(self, spec: str) -> NoReturn:
        raise TypeError(_NO_TEXT)

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret can't be pickled or copied")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)
