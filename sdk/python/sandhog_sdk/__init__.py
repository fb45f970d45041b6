"""Write job handlers for Sandhog: what a handler is written with. See README.md.

    from sandhog_sdk import Context, handler, permanent

    @handler("greet.hello")
    def hello(ctx: Context, input: dict) -> dict:
        if not input["name"]:
            raise permanent("whom to greet?")
        return {"greeting": f"hello, {input['name']}"}
"""

from ._context import ABSENT, Context, Log, State
from ._failure import Failure, HostError, permanent, retry_after, transient
from ._handler import Handler, handler
from ._host import StopReason
from ._http import Http, HttpRequest, HttpResponse
from ._secret import Secret

__all__ = [
    "ABSENT",
    "Context",
    "Failure",
    "Handler",
    "HostError",
    "Http",
    "HttpRequest",
    "HttpResponse",
    "Log",
    "Secret",
    "State",
    "StopReason",
    "handler",
    "permanent",
    "retry_after",
    "transient",
]
