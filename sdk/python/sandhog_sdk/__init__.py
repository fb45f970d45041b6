"""Write job handlers for Sandhog: what a handler is written with. See README.md.

    from sandhog_sdk import Context, handler, permanent

    @handler("greet.hello")
    def hello(ctx: Context, input: dict) -> dict:
        if not input["name"]:
            raise permanent("whom to greet?")
        return {"greeting": f"hello, {input['name']}"}
"""

from ._context import Context, Log, State
from ._failure import Failure, HostError, permanent, retry_after, transient
from ._handler import Handler, handler
from ._host import StopReason

__all__ = [
    "Context",
    "Failure",
    "Handler",
    "HostError",
    "Log",
    "State",
    "StopReason",
    "handler",
    "permanent",
    "retry_after",
    "transient",
]
