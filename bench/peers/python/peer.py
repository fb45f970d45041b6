"""What a peer program says and is told: a line of JSON each, on standard output and input. See ../README.md."""

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from importlib.metadata import version

Command = Callable[[dict], Awaitable[float]]


def place() -> tuple[str, str]:
    """The server and the queue that the command line names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--queue", required=True)
    arguments = parser.parse_args()
    return arguments.url, arguments.queue


def say(line: dict) -> None:
    """Says one line."""
    print(json.dumps(line), flush=True)


async def serve(system: str, commands: dict[str, Command]) -> None:
    """Says who this is, then does one command after the other: each returns how many seconds it took."""
    say({"ready": True, "system": system, "version": version(system)})
    while line := await asyncio.to_thread(sys.stdin.readline):
        command = json.loads(line)
        if command["do"] == "quit":
            return
        say({"seconds": await commands[command["do"]](command)})


class Countdown:
    """Waits until so many jobs are settled."""

    def __init__(self, jobs: int) -> None:
        self._left = jobs
        self._settled = asyncio.Event()

    def settled(self) -> None:
        """One more is."""
        self._left -= 1
        if self._left == 0:
            self._settled.set()

    async def wait(self) -> None:
        """Until the last one is."""
        await self._settled.wait()
