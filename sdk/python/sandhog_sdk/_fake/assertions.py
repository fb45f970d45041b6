"""Assertions on what was enqueued, which tell what was instead."""

import json
from collections.abc import Sequence
from typing import Any

from .jobs import EnqueuedJob

ANY: Any = object()

_PAYLOAD_SHOWN = 200
_JOBS_SHOWN = 50
_PRIORITY_USUAL = 100


def find(jobs: Sequence[EnqueuedJob], kind: str, wanted: Any) -> EnqueuedJob | None:
    """The first job of a kind whose payload is like the wanted one."""
    return next((job for job in jobs if job.kind == kind and _is_like(job.payload, wanted)), None)


def missing(jobs: Sequence[EnqueuedJob], kind: str, wanted: Any) -> str:
    """What is said where there is none."""
    condition = "" if wanted is ANY else f" with a payload like {getattr(wanted, '__qualname__', None) or repr(wanted)}"
    return f"no job of kind `{kind}` was enqueued{condition}\n{_list(jobs)}"


def unwanted(job: EnqueuedJob) -> str:
    """What is said of one that shouldn't be there."""
    return f"a job was enqueued that shouldn't be:\n{_describe(job)}"


def _is_like(value: Any, wanted: Any) -> bool:
    """Whether a value has all that is wanted of it; a dict may have more."""
    if wanted is ANY:
        return True
    if callable(wanted):
        return bool(wanted(value))
    if isinstance(wanted, dict):
        return isinstance(value, dict) and all(name in value and _is_like(value[name], part) for name, part in wanted.items())
    if isinstance(wanted, (list, tuple)):
        same_length = isinstance(value, list) and len(value) == len(wanted)
        return same_length and all(_is_like(*pair) for pair in zip(value, wanted, strict=True))
    return type(value) is type(wanted) and bool(value == wanted)


def _list(jobs: Sequence[EnqueuedJob]) -> str:
    if not jobs:
        return "nothing was enqueued"
    lines = ["what was enqueued:", *map(_describe, jobs[:_JOBS_SHOWN])]
    if len(jobs) > _JOBS_SHOWN:
        lines.append(f"  and {len(jobs) - _JOBS_SHOWN} more")
    return "\n".join(lines)


def _describe(job: EnqueuedJob) -> str:
    """A job in a line: id, kind, payload, and what isn't as usual."""
    unusual = [
        "" if job.queue is None else f", queue {job.queue}",
        "" if job.group is None else f", group {job.group!r}",
        "" if job.content_type is None else f", content type {job.content_type!r}",
        "" if job.delay_ms == 0 else f", after {job.delay_ms / 1000:g} s",
        "" if job.start_within_ms is None else f", start within {job.start_within_ms / 1000:g} s",
        "" if job.deadline_ms is None else f", deadline {job.deadline_ms / 1000:g} s",
        *(f", label {name}={value}" for name, value in job.labels.items()),
        "" if job.priority == _PRIORITY_USUAL else f", priority {job.priority}",
        "" if job.unique_key is None else f", unique key {job.unique_key!r}",
    ]
    return f"  {job.id} {job.kind} {_shown(job.payload)}{''.join(unusual)}"


def _shown(payload: Any) -> str:
    if isinstance(payload, bytes):
        text = f"{len(payload)} bytes that are no JSON"
    else:
        text = json.dumps(payload, ensure_ascii=False)
    return f"{text[:_PAYLOAD_SHOWN]}…" if len(text) > _PAYLOAD_SHOWN else text
