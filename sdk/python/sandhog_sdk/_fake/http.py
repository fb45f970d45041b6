"""The HTTP of a fake host: a table of replies."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .._failure import HostError
from .._http import HttpRequest, HttpResponse


@dataclass(frozen=True)
class HttpReply:
    """A reply of a fake host."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | str = b""
    #: The body as JSON.
    json: Any = None
    #: No response: the request fails for this reason.
    error: str | None = None


Replies = HttpReply | Sequence[HttpReply] | Callable[[HttpRequest], HttpReply]


class HttpTable:
    """Replies by `METHOD URL`; the URL may end in `*`, for all that begin like it, and the method may be `*`."""

    def __init__(self, replies: Mapping[str, Replies]) -> None:
        self._replies: list[tuple[str, str, Replies]] = []
        self._used: dict[tuple[str, str], int] = {}
        for request, given in replies.items():
            method, _, url = request.partition(" ")
            if not url or " " in url:
                raise ValueError(f"a request of the fake host is `METHOD URL`, not `{request}`")
            self._replies.append((method, url, given))

    def reply(self, request: HttpRequest) -> HttpResponse:
        """The reply to a request: the one for this very URL, or else for its longest beginning."""

        def fits(method: str, url: str) -> bool:
            is_url = request.url.startswith(url[:-1]) if url.endswith("*") else request.url == url
            return is_url and method in ("*", request.method)

        fitting = [entry for entry in self._replies if fits(entry[0], entry[1])]
        if not fitting:
            problem = f"the fake host has no reply to {request.method} {request.url}: add it to its `http`"
            raise HostError("not-granted", f"send a request: {problem}")
        method, url, given = max(fitting, key=lambda entry: (not entry[1].endswith("*"), len(entry[1]), entry[0] != "*"))
        reply = self._next(method, url, given, request)
        if reply.error is not None:
            raise HostError("failed", f"send a request: {reply.error}")
        headers = {name.lower(): value for name, value in reply.headers.items()}
        if reply.json is None:
            body = reply.body.encode() if isinstance(reply.body, str) else reply.body
            return HttpResponse(reply.status, headers, body)
        body = json.dumps(reply.json).encode()
        return HttpResponse(reply.status, {"content-type": "application/json", **headers}, body)

    def _next(self, method: str, url: str, given: Replies, request: HttpRequest) -> HttpReply:
        if isinstance(given, HttpReply):
            return given
        if callable(given):
            return given(request)
        turn = self._used.get((method, url), 0)
        self._used[(method, url)] = turn + 1
        return given[min(turn, len(given) - 1)]
