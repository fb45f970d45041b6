"""Write job handlers for Sandhog: what a handler is written with. See README.md.

    from sandhog_sdk import Context, handler, permanent

    @handler("greet.hello")
    def hello(ctx: Context, input: dict) -> dict:
        if not input["name"]:
            raise permanent("whom to greet?")
        return {"greeting": f"hello, {input['name']}"}
"""

from ._context import ABSENT, Context, Log, NewJobOptions, State
from ._failure import Failure, HostError, permanent, rate_limited, retry_after, snooze, transient, unavailable
from ._handler import Handler, handler
from ._host import StopReason
from ._http import Http, HttpRequest, HttpResponse
from ._secret import Secret
from ._unique import Debounce, Unique

__all__ = [
    "ABSENT",
    "Context",
    "Debounce",
    "Failure",
    "Handler",
    "HostError",
    "Http",
    "HttpRequest",
    "HttpResponse",
    "Log",
    "NewJobOptions",
    "Secret",
    "State",
    "StopReason",
    "Unique",
    "handler",
    "permanent",
    "rate_limited",
    "retry_after",
    "snooze",
    "transient",
    "unavailable",
]
