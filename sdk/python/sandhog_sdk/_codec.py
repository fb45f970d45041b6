"""Payloads, outputs and state values: JSON, or bytes as they are.

What is said of malformed JSON names the place, never what was found there: payloads and state are nobody else's business,
and errors are seen by many.
"""

import dataclasses
import json
from typing import Any


def encode(value: object) -> bytes:
    """The value's bytes. Dataclasses are JSON objects."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    return json.dumps(value, default=_default, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def decode(data: bytes) -> Any:
    """The value of JSON bytes; raises `ValueError` if they are none."""
    try:
        return json.loads(data.decode("utf-8"))
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON at line {error.lineno} column {error.colno}: {error.msg}") from None


def _default(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    raise TypeError(f"a {type(value).__name__} has no JSON form")
