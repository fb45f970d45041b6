"""What the log says of an exception: its type, its message, and where it was raised."""

import opcode
import re
import traceback
from types import TracebackType

# Of a stack, so many frames tell where it was.
_FRAMES_MAX = 8
_MESSAGE_MAX = 1000

_RAISES = {opcode.opmap[name] for name in ("RAISE_VARARGS", "RERAISE") if name in opcode.opmap}

# What Python itself says in these quotes names of the code; in others, the values that it met.
_QUOTING_NAMES = (AttributeError, ImportError, NameError, RecursionError, SyntaxError, TypeError)
_QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""", re.DOTALL)


def describe(raised: BaseException) -> tuple[str, str]:
    """The message of a log line about an exception, and its stack.

    What a `raise` says was written by somebody for people. What Python itself says may quote a value of the payload
    (`invalid literal for int() with base 10: '…'`), which is left out: the log is read by more people than the job.
    """
    name, text = type(raised).__name__, str(raised)
    if not _is_by_statement(raised.__traceback__) and not isinstance(raised, _QUOTING_NAMES):
        # A key is shown without quotes if it is no text.
        text = "" if isinstance(raised, KeyError) else _QUOTED.sub("'…'", text)
    if len(text) > _MESSAGE_MAX:
        text = f"{text[:_MESSAGE_MAX]}…"
    stack = "".join(traceback.format_tb(raised.__traceback__, -_FRAMES_MAX)).strip()
    return (f"{name}: {text}" if text else name), stack


def _is_by_statement(at: TracebackType | None) -> bool:
    """Whether it was a `raise` in Python code that raised it."""
    if at is None:
        return False
    while at.tb_next is not None:
        at = at.tb_next
    return at.tb_frame.f_code.co_code[at.tb_lasti] in _RAISES
