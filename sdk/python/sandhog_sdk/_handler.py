"""Handlers by kind, and the way from a payload to an output."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from ._codec import decode, encode
from ._context import Context
from ._failure import permanent
from ._host import Host, Job

Input = TypeVar("Input")
Output = TypeVar("Output")

_handlers: dict[str, "Handler[Any, Any]"] = {}


class Handler(Generic[Input, Output]):
    """The handler of one kind of job. Called, it is the plain function, for tests of one's own."""

    def __init__(self, kind: str, run: Callable[[Context, Input], Output], parse: Callable[[Any], Input] | None) -> None:
        self.kind = kind
        self._run = run
        self._parse = parse
        self.__doc__ = run.__doc__

    def __call__(self, ctx: Context, input: Input) -> Output:
        return self._run(ctx, input)

    def handle(self, host: Host, job: Job) -> bytes:
        """Decodes the payload, handles the job, encodes the output. Raises what it comes to instead."""
        # An input that is none will be none the next time; the same goes for an output.
        try:
            value = self._decode(job.payload)
        except Exception as error:
            raise permanent(f"the payload is no input of `{self.kind}`") from error
        output = self._run(Context(host, job), value)
        try:
            return encode(output)
        except (TypeError, ValueError) as error:
            raise permanent(f"the output of `{self.kind}` has no JSON form") from error

    def _decode(self, payload: bytes) -> Any:
        if self._parse is bytes:
            return payload
        value = decode(payload)
        return value if self._parse is None else self._parse(value)


def handler(
    kind: str, *, input: Callable[[Any], Any] | None = None
) -> Callable[[Callable[[Context, Any], Output]], Handler[Any, Output]]:
    """Handles a kind of job: a decorator of a function that takes a context and an input.

    The input is the payload's JSON. With `input=bytes` it is the payload as it is; any other callable is given the parsed
    JSON and returns the input, or raises if it is none, which is a permanent failure: `input=Order.model_validate` of a
    schema library fits.

    What the function returns becomes the job's output: JSON (dataclasses are objects), or bytes as they are. What it
    raises is a failure: `permanent(…)` buries the job, `retry_after(…)` names the wait, and any other exception means that
    it is tried again by its retry policy. A component may handle several kinds.
    """
    if not kind:
        raise ValueError("handler: the kind is a text such as `invoice.total`")
    if kind in _handlers:
        raise ValueError(f"handler: two handlers have the kind `{kind}`")

    def register(run: Callable[[Context, Any], Output]) -> Handler[Any, Output]:
        made: Handler[Any, Output] = Handler(kind, run, input)
        _handlers[kind] = made
        return made

    return register


def kinds() -> list[str]:
    """The kinds that have a handler."""
    return list(_handlers)


def dispatch(host: Host, job: Job) -> bytes:
    """Handles a job by its kind."""
    made = _handlers.get(job.kind)
    if made is None:
        known = ", ".join(f"`{kind}`" for kind in _handlers)
        raise permanent(f"this component has no handler of `{job.kind}`, only of {known}")
    return made.handle(host, job)
