"""Plays the steps of a host scenario: what a handler asks of its host, one after the other.

`sdk/scenarios` has the steps and what is to come of them, against each language's fake host and against the daemon.
"""

import json
import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from sandhog_sdk import (
    ABSENT,
    Context,
    Debounce,
    Failure,
    HostError,
    NewJobOptions,
    Unique,
    handler,
    permanent,
    rate_limited,
    retry_after,
    snooze,
    transient,
    unavailable,
)


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
            case "fail_with":
                raise transient(argument["message"], code=argument["code"])
            case "snooze" | "rate_limited" | "unavailable" if not ctx.path(argument["unless"]).exists():
                ctx.path(argument["unless"]).touch()
                raise _PUT_OFFS[name](argument["ms"] / 1000)
        ctx.log.info("answer", step=number, answer=json.dumps(_answer(ctx, name, argument)))
    return ""


_PUT_OFFS: dict[str, Callable[[float], Failure]] = {
    "snooze": snooze,
    "rate_limited": lambda wait: rate_limited(wait, "stripe"),
    "unavailable": lambda wait: unavailable("stripe", wait),
}


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
    ctx.enqueue(step["kind"], payload, **_options(ctx, step))
    return "ok"


def _options(ctx: Context, step: Any) -> NewJobOptions:
    """The options of a job as the SDK has them."""
    options = NewJobOptions(
        content_type=step.get("content_type"),
        queue=step.get("queue"),
        group=step.get("group"),
        start_within=_seconds(step.get("start_within_ms")),
        deadline=_seconds(step.get("deadline_ms")),
        labels=step.get("labels", {}),
        unique_key=step.get("unique_key"),
        unique=_unique(step),
    )
    if "priority" in step:
        options["priority"] = step["priority"]
    if "delay_ms" in step:
        options["delay"] = step["delay_ms"] / 1000
    if "at_ms" in step:
        options["at"] = ctx.enqueued_at + timedelta(milliseconds=step["at_ms"])
    return options


def _unique(step: Any) -> Unique | Debounce | None:
    rule = step.get("unique") or step.get("debounce")
    if rule is None:
        return None
    if "debounce" in step:
        delay, longest = rule["delay_ms"] / 1000, rule["longest_ms"] / 1000
        return Debounce(rule["key"], delay=delay, longest=longest, leading=rule.get("leading", False))
    if "for_ms" in rule:
        return Unique(rule["key"], until="over", lasts=rule["for_ms"] / 1000)
    return Unique(
        rule["key"],
        until="started" if rule.get("until_started") else "settled",
        lasts=_seconds(rule.get("at_most_ms")),
        replaces=rule.get("replacing", False),
    )


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


def _job(ctx: Context, _: Any) -> dict[str, Any]:
    return {
        "group": ctx.group,
        "labels": ctx.labels,
        "content_type": ctx.content_type,
        "has_deadline": ctx.job_deadline is not None and ctx.job_deadline > ctx.enqueued_at,
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
    "job": _job,
    "snooze": lambda *_: "ok",
    "rate_limited": lambda *_: "ok",
    "unavailable": lambda *_: "ok",
    "read": lambda ctx, path: ctx.path(path).read_text(encoding="utf-8"),
    "write": _write,
    "list": lambda ctx, path: sorted(entry.name for entry in ctx.path(path).iterdir()),
    "remove": _remove,
}
