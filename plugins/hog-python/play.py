"""Plays the steps of a host scenario: what a handler asks of its host, one after the other.

`sdk/scenarios` has the steps and what is to come of them, against each language's fake host and against the daemon.
"""

import json
import os
from collections.abc import Callable
from typing import Any

from sandhog_sdk import ABSENT, Context, HostError, handler, permanent, retry_after, transient


@handler("hog.play")
def play(ctx: Context, input: Any) -> str:
    """Plays the steps of this attempt. Each answer is logged, so that it is known of attempts that fail as well."""
    attempts = input["attempts"]
    for number, step in enumerate(attempts[min(ctx.attempt, len(attempts)) - 1]):
        ((name, argument),) = step.items()
        match name:
            case "output":
                return "x" * int(argument)
            case "fail":
                raise transient(argument)
            case "retry_after":
                raise retry_after(argument["ms"] / 1000, argument["message"])
            case "permanent":
                raise permanent(argument)
        ctx.log.info("answer", step=number, answer=json.dumps(_answer(ctx, name, argument)))
    return ""


def _answer(ctx: Context, name: str, argument: Any) -> Any:
    try:
        return _STEPS[name](ctx, argument)
    except HostError as error:
        return {"refused": error.code}
    except OSError:
        return {"refused": "file"}


def _get(ctx: Context, key: str) -> Any:
    value = ctx.state.get(key, ABSENT)
    return "absent" if value is ABSENT else {"value": value}


def _seconds(ms: int | None) -> float | None:
    return None if ms is None else ms / 1000


def _set(ctx: Context, step: Any) -> str:
    value = "x" * step["length"] if "length" in step else step["value"]
    ctx.state.set(step["key"], value, ttl=_seconds(step.get("ttl_ms")))
    return "ok"


def _delete(ctx: Context, key: str) -> str:
    ctx.state.delete(key)
    return "ok"


def _increment(ctx: Context, step: Any) -> str:
    ctx.state.increment(step["key"], step["by"])
    return "ok"


def _swap(ctx: Context, step: Any) -> bool:
    expected = step.get("expected", ABSENT)
    return ctx.state.compare_and_set(step["key"], expected, step["value"], ttl=_seconds(step.get("ttl_ms")))


def _enqueue(ctx: Context, step: Any) -> str:
    payload = "x" * (step["length"] - 2) if "length" in step else step["payload"]
    options = {name: step[name] for name in ("queue", "priority", "unique_key") if name in step}
    ctx.enqueue(step["kind"], payload, delay=step.get("delay_ms", 0) / 1000, **options)
    return "ok"


def _progress(ctx: Context, step: Any) -> str:
    ctx.progress(step["done"], step.get("total"), step.get("message"))
    return "ok"


def _facts(ctx: Context, _: Any) -> dict[str, Any]:
    return {
        "attempt": ctx.attempt,
        "max_attempts": ctx.max_attempts,
        "kind": ctx.kind,
        "idempotency_key_is_job_id": ctx.idempotency_key == ctx.job_id,
        "stop_requested": ctx.stop_requested is not None,
        "has_time_left": ctx.remaining > 0,
    }


def _write(ctx: Context, step: Any) -> str:
    ctx.path(step["path"]).write_text(step["text"], encoding="utf-8")
    return "ok"


def _remove(ctx: Context, path: str) -> str:
    ctx.path(path).unlink()
    return "ok"


def _fetch(ctx: Context, step: Any) -> Any:
    url = step["url"] if "url" in step else os.environ["WEB"] + step["path"]
    try:
        response = ctx.http.request(step["method"], url, body=step.get("body", ""))
    except HostError:
        return {"refused": "http"}
    return {"status": response.status, "body": response.text}


_STEPS: dict[str, Callable[[Context, Any], Any]] = {
    "get": _get,
    "set": _set,
    "delete": _delete,
    "increment": _increment,
    "swap": _swap,
    "enqueue": _enqueue,
    "secret": lambda ctx, name: {"length": len(ctx.secret(name).expose())},
    "env": lambda _, name: os.environ.get(name),
    "fetch": _fetch,
    "progress": _progress,
    "facts": _facts,
    "read": lambda ctx, path: ctx.path(path).read_text(encoding="utf-8"),
    "write": _write,
    "list": lambda ctx, path: sorted(entry.name for entry in ctx.path(path).iterdir()),
    "remove": _remove,
}
