"""Handlers that misbehave when told to, and some that do as little as can be: the kinds and inputs of `plugins/hog`, in
Python, so that the same tests hold for both.
"""

import itertools
import random
import time
from typing import Any

import claims  # noqa: F401
import play  # noqa: F401
from sandhog_sdk import ABSENT, Context, HostError, handler, permanent, retry_after

_MIB = 1 << 20


@handler("hog.echo", input=bytes)
def echo(ctx: Context, payload: bytes) -> bytes:
    """Returns its payload: the least a job can do."""
    return payload


@handler("hog.fail")
def fail(ctx: Context, input: Any) -> int:
    """Fails as it is told to, and returns the attempt that succeeded."""
    if input == "permanent":
        raise permanent("was told to fail for good")
    later = input.get("retry-after")
    attempts = (later or input["transient"]).get("attempts")
    if attempts is not None and ctx.attempt > attempts:
        return ctx.attempt
    if later:
        raise retry_after(later["ms"] / 1000, f"attempt {ctx.attempt} was told to come later")
    raise Exception(f"attempt {ctx.attempt} was told to fail")


def _counter(input: Any) -> str:
    match input:
        case {"counter": str(counter)}:
            return counter
    raise TypeError("`counter` is a text")


@handler("hog.count", input=_counter)
def count(ctx: Context, counter: str) -> None:
    """Adds 1 to a counter in the state, once."""
    ctx.state.increment(counter)


@handler("hog.swap")
def swap(ctx: Context, input: Any) -> dict[str, bool]:
    """Compares and sets a number in the state."""
    expected = input.get("expected")
    return {"swapped": ctx.state.compare_and_set(input["key"], ABSENT if expected is None else expected, input["value"])}


@handler("hog.note")
def note(ctx: Context, input: Any) -> str:
    """Leaves a text wherever a handler can: in its state, log, progress, a further job and its output."""
    text: str = input["text"]
    ctx.log.info(text, text=text)
    ctx.progress(1, 1, text)
    ctx.state.set("note", text)
    ctx.enqueue("hog.echo", text)
    if input.get("fail"):
        raise permanent(text)
    return text


@handler("hog.spawn")
def spawn(ctx: Context, input: Any) -> list[str]:
    """Enqueues jobs, and returns their ids."""
    payload = input.get("payload", "").encode()
    prefix = input.get("unique_prefix")
    keys = (None if prefix is None else f"{prefix}{number}" for number in range(input["count"]))
    return [ctx.enqueue(input["kind"], payload, queue=input.get("queue"), unique_key=key) for key in keys]


@handler("hog.secret")
def secret(ctx: Context, input: Any) -> dict[str, Any]:
    """Returns how long a secret is, or why it can't be had."""
    try:
        return {"bytes": len(ctx.secret(input["name"]).expose().encode())}
    except HostError as error:
        return {"refused": str(error)}


@handler("hog.read")
def read(ctx: Context, input: Any) -> bytes:
    """Reads a file, and returns what is in it."""
    try:
        with open(input["path"], "rb") as file:
            return file.read()
    except OSError as error:
        raise permanent(str(error)) from None


@handler("hog.exchange")
def exchange(ctx: Context, input: Any) -> dict[str, Any]:
    """Sends requests, and says what came of the last of them."""
    body = b"x" * input.get("send", 0)
    received = 0
    for number in range(input.get("times", 1)):
        try:
            response = ctx.http.request(input.get("method", "GET"), input["url"], body=body)
        except HostError as error:
            raise permanent(f"request {number}: {error}") from None
        received += len(response.body)
    return {
        "status": response.status,
        "received": received,
        "body": response.body[:1000].decode("utf-8", "replace"),
        "headers": [list(field) for field in response.headers.items()],
        "trailers": [],
    }


@handler("hog.spin")
def spin(ctx: Context, input: Any) -> int:
    """Uses the CPU, and returns the number that all the work was for."""
    number = 1
    rounds = input.get("rounds")
    for _ in itertools.count() if rounds is None else range(rounds):
        number = number * 48271 % 0x7FFFFFFF
    return number


@handler("hog.allocate")
def allocate(ctx: Context, input: Any) -> int:
    """Takes memory, touches all of it, and returns how many bytes it held at the end."""
    wanted = input.get("bytes")
    held: list[bytearray] = []
    while wanted is None or len(held) * _MIB < wanted:
        held.append(bytearray(b"\x01") * _MIB)
    return len(held) * _MIB


@handler("hog.recurse")
def recurse(ctx: Context, input: Any) -> int:
    """Calls itself, and returns a number that depends on every call."""
    return _dive(0, input.get("depth"))


def _dive(depth: int, depth_max: int | None) -> int:
    return 1 if depth == depth_max else (_dive(depth + 1, depth_max) * 31 + depth) % 1_000_003


@handler("hog.panic")
def panic(ctx: Context, input: Any) -> None:
    """Raises what is no error of anybody's making: the nearest that Python has to a panic."""
    raise AssertionError(input.get("message", "the hog was told to"))


@handler("hog.output")
def output(ctx: Context, input: Any) -> bytes:
    """Returns garbage, which doesn't compress."""
    return random.Random(1).randbytes(input["bytes"])


_calls = itertools.count(1)


@handler("hog.remember")
def remember(ctx: Context, input: Any) -> int:
    """Counts its calls where nothing lasts, and returns the count: 1, if every job gets an instance of its own."""
    return next(_calls)


@handler("hog.log")
def log(ctx: Context, input: Any) -> None:
    """Writes log lines: with the context, and with `print` every other time."""
    lines = input.get("lines")
    for line in itertools.count() if lines is None else range(lines):
        if line % 2:
            print("the hog has a lot to say")
        else:
            ctx.log.info("the hog has a lot to say", line=line)


@handler("hog.sleep")
def sleep(ctx: Context, input: Any) -> None:
    """Waits without using the CPU."""
    time.sleep(input["ms"] / 1000)
