"""The requests of a component, through wasi:http. The build makes this the entry of one that asks for it in its project."""

from typing import Any
from urllib.parse import urlsplit

from componentize_py_types import Err, Ok
from wit_world.imports import outgoing_handler, streams
from wit_world.imports import wasi_http_types as http

from . import guest
from ._failure import HostError
from ._http import HttpRequest, HttpResponse

__all__ = ["WitWorld"]

WitWorld = guest.WitWorld

_PIECE = 4096
_READ = 64 << 10


def _send(request: HttpRequest) -> HttpResponse:
    try:
        outgoing = _outgoing(request)
        body = outgoing.body()
        # It takes the request over, as `finish` does the body.
        with outgoing_handler.handle(outgoing, None) as future:
            _write(body, request.body)
            with future.subscribe() as ready:
                ready.block()
            match future.get():
                case Ok(Ok(response)):
                    return _read(response)
                case Ok(Err(code)):
                    raise _refused(code)
            raise HostError("failed", "send a request: no response")
    except Err as error:
        raise _refused(error.value) from None


def _outgoing(request: HttpRequest) -> http.OutgoingRequest:
    parts = urlsplit(request.url)
    try:
        headers = http.Fields.from_list([(name, value.encode()) for name, value in request.headers.items()])
        outgoing = http.OutgoingRequest(headers)
        outgoing.set_method(_METHODS[request.method]() if request.method in _METHODS else http.Method_Other(request.method))
        outgoing.set_scheme(http.Scheme_Https() if parts.scheme == "https" else http.Scheme_Http())
        outgoing.set_authority(parts.netloc)
        outgoing.set_path_with_query((parts.path or "/") + (f"?{parts.query}" if parts.query else ""))
    except Err:
        raise HostError("invalid", "send a request: its URL, its method or a header is malformed") from None
    return outgoing


_METHODS: dict[str, Any] = {
    "GET": http.Method_Get,
    "HEAD": http.Method_Head,
    "POST": http.Method_Post,
    "PUT": http.Method_Put,
    "DELETE": http.Method_Delete,
    "OPTIONS": http.Method_Options,
    "PATCH": http.Method_Patch,
}


def _write(body: http.OutgoingBody, data: bytes) -> None:
    with body.write() as stream:
        for at in range(0, len(data), _PIECE):
            try:
                stream.blocking_write_and_flush(data[at : at + _PIECE])
            except Err as error:
                if isinstance(error.value, streams.StreamError_Closed):
                    # Whoever has heard enough answers: the response tells why.
                    break
                raise _broken(error.value) from None
    http.OutgoingBody.finish(body, None)


def _read(response: http.IncomingResponse) -> HttpResponse:
    with response:
        headers: dict[str, str] = {}
        with response.headers() as fields:
            for name, value in fields.entries():
                text = value.decode("utf-8", "replace")
                known = headers.get(name.lower())
                headers[name.lower()] = text if known is None else f"{known}, {text}"
        with response.consume() as body, body.stream() as stream:
            return HttpResponse(response.status(), headers, _read_all(stream))


def _read_all(stream: streams.InputStream) -> bytes:
    pieces = []
    while True:
        try:
            pieces.append(stream.blocking_read(_READ))
        except Err as error:
            if isinstance(error.value, streams.StreamError_Closed):
                return b"".join(pieces)
            raise _broken(error.value) from None


def _broken(error: streams.StreamError) -> HostError:
    """Why a body ends early."""
    code = http.http_error_code(error.value) if isinstance(error, streams.StreamError_LastOperationFailed) else None
    return _refused(code)


def _refused(code: Any) -> HostError:
    if isinstance(code, http.ErrorCode_HttpRequestDenied):
        why = "its host is not granted; the job's log says which line to add"
        return HostError("not-granted", f"send a request: {why}")
    name = type(code).__name__.partition("_")[2] if code is not None else "it ends early"
    return HostError("failed", f"send a request: {name}")


guest.send_http = _send
