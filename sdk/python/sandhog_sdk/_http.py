"""Requests to hosts that the operator granted."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

from ._codec import decode, encode
from ._failure import HostError


@dataclass(frozen=True)
class HttpRequest:
    """A request. What may be secret of it doesn't show."""

    method: str
    url: str = field(repr=False)
    #: Names, in lower case, and values.
    headers: dict[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True)
class HttpResponse:
    """What came back."""

    status: int
    #: Names, in lower case, and values; those of a name that comes several times are joined by commas.
    headers: dict[str, str]
    #: The body, whole.
    body: bytes = field(repr=False)

    @property
    def text(self) -> str:
        """The body as text; what isn't UTF-8 is replaced."""
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """The value of the body's JSON; raises `ValueError` if it is none."""
        return decode(self.body)


class _Sender(Protocol):
    def http(self, request: HttpRequest) -> HttpResponse: ...


class Http:
    """Sends requests, and waits for the whole response, whatever its status; a redirect is returned and not followed.

    A request is sent at once, and not when the job succeeds: hand on `ctx.idempotency_key`, so that the other side can tell a
    repetition. Without a response, it raises a `HostError` with the code `not-granted`, `invalid` or `failed`.
    """

    def __init__(self, host: _Sender) -> None:
        self._host = host

    def get(self, url: str, *, headers: Mapping[str, str] | None = None) -> HttpResponse:
        """Sends a `GET`."""
        return self.request("GET", url, headers=headers)

    def post(
        self, url: str, *, headers: Mapping[str, str] | None = None, body: bytes | str = b"", json: object = None
    ) -> HttpResponse:
        """Sends a `POST`."""
        return self.request("POST", url, headers=headers, body=body, json=json)

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | str = b"",
        json: object = None,
    ) -> HttpResponse:
        """Sends a request. `json` is sent as JSON, in the place of a `body`."""
        named = {name.lower(): value for name, value in (headers or {}).items()}
        if json is not None:
            body = encode(json)
            named.setdefault("content-type", "application/json")
        data = body.encode() if isinstance(body, str) else body
        try:
            parts = urlsplit(url)
        except ValueError:
            parts = urlsplit("")
        if parts.scheme not in ("http", "https") or not parts.netloc or "@" in parts.netloc:
            raise HostError("invalid", "send a request: a URL is `http://` or `https://`, a host, and a path")
        return self._host.http(HttpRequest(method, url, named, data))
