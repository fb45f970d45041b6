"""What docs/languages.md says of Python, each claim as something to be run: `{"claim": "packages"}`."""

import asyncio
import collections.abc
import dataclasses
import datetime
import decimal
import hashlib
import os
import random
import re
import sys
import threading
import time
import uuid
from typing import Any

import jinja2
from dateutil import parser, relativedelta
from sandhog_sdk import Context, handler


def _packages(ctx: Context, given: Any) -> Any:
    """Packages of PyPI: one with templates, one that reads dates."""
    template = jinja2.Environment(autoescape=True).from_string("{% for name in names %}hello, {{ name }}! {% endfor %}")
    later = parser.parse(given["date"]) + relativedelta.relativedelta(months=1)
    return {"text": template.render(names=given["names"]).strip(), "later": later.isoformat()}


def _library(ctx: Context, given: Any) -> Any:
    """What the standard library has."""
    return {
        "digest": hashlib.sha256(b"").hexdigest()[:8],
        "sum": str(decimal.Decimal("0.1") + decimal.Decimal("0.2")),
        "uuid": len(str(uuid.uuid4())),
        "found": re.findall(r"\d+", "a1b22"),
        "date": datetime.datetime(2026, 1, 31, tzinfo=datetime.UTC).isoformat(),
        "waited": _waited(0.01),
        # Each is imported when it is used first.
        "encoded": ["bücher.example".encode(name).hex() for name in ("idna", "utf-8-sig", "utf-16-le", "latin-1", "cp1252")],
    }


def _waited(seconds: float) -> bool:
    begun = time.monotonic()
    time.sleep(seconds)
    return time.monotonic() - begun >= seconds


def _missing(ctx: Context, given: Any) -> Any:
    """What a sandbox has not, and how it says so."""

    async def nothing() -> None:
        pass

    coroutine = nothing()
    tries: dict[str, collections.abc.Callable[[], Any]] = {
        "threads": lambda: threading.Thread(target=print).start(),
        "asyncio": lambda: asyncio.run(coroutine),
        "processes": lambda: os.system("true"),
        "import": lambda: __import__("wave"),
    }
    found = {}
    for name, attempt in tries.items():
        try:
            attempt()
            found[name] = "works"
        except BaseException as error:
            found[name] = type(error).__name__
    coroutine.close()
    return found


def _coroutines(ctx: Context, given: Any) -> Any:
    """Coroutines that wait for nothing outside can be run by hand."""

    async def double(number: int) -> int:
        return number * 2

    async def both() -> list[int]:
        return [await double(1), await double(2)]

    coroutine = both()
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value


def _random(ctx: Context, given: Any) -> Any:
    """Chance is another one in each job."""
    return [random.random(), str(uuid.uuid4()), os.urandom(8).hex(), hash("text")]


def _large(ctx: Context, given: Any) -> Any:
    """A large payload."""
    rows = given["rows"]
    return {"rows": len(rows), "sum": sum(row["n"] for row in rows), "last": rows[-1]["text"]}


def _files(ctx: Context, given: Any) -> Any:
    """Many files, one after the other."""
    folder = ctx.path(given["folder"])
    for number in range(given["times"]):
        file = folder / str(number % 3)
        file.write_text(str(number), encoding="utf-8")
        if file.read_text(encoding="utf-8") != str(number):
            raise RuntimeError("it isn't what was written")
    return sorted(entry.name for entry in folder.iterdir())


@dataclasses.dataclass
class _Account:
    number: str


def _raises(ctx: Context, given: Any) -> Any:
    """An exception with a cause, raised deep inside."""

    def inner() -> None:
        raise ValueError(given["message"])

    account = _Account(given["message"])
    try:
        inner()
    except ValueError as error:
        raise RuntimeError(f"account of {len(account.number)} digits") from error


def _quotes(ctx: Context, given: Any) -> Any:
    """An exception in which Python itself quotes a value."""
    return int(given["message"])


def _prints(ctx: Context, given: Any) -> Any:
    """Prints in every way."""
    print("a line")
    print("a warning", file=sys.stderr)
    print("two\nlines")
    sys.stdout.buffer.write(b"\xff\x00 binary\n")
    sys.stdout.flush()
    print("without an end", end="")
    return "done"


_CLAIMS: dict[str, collections.abc.Callable[[Context, Any], Any]] = {
    "packages": _packages,
    "library": _library,
    "missing": _missing,
    "coroutines": _coroutines,
    "random": _random,
    "large": _large,
    "files": _files,
    "raises": _raises,
    "quotes": _quotes,
    "prints": _prints,
}


@handler("hog.claim")
def claim(ctx: Context, given: Any) -> Any:
    """Does what a claim is about."""
    return _CLAIMS[given["claim"]](ctx, given)
