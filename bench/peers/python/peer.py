"""What a peer program says and is told: a line of JSON each, on standard output and input. See ../README.md."""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import version

Command = Callable[[dict], Awaitable[dict]]


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
    """Says who this is, then does one command after the other: each returns its answer."""
    say({"ready": True, "system": system, "version": version(system)})
    while line := await asyncio.to_thread(sys.stdin.readline):
        command = json.loads(line)
        if command["do"] == "quit":
            return
        say(await commands[command["do"]](command))


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


class Latency:
    """When something was done with each of some jobs."""

    def __init__(self, jobs: int) -> None:
        self._added, self._started, self._settled = ([0.0] * jobs for _ in range(3))
        self._countdown = Countdown(jobs)

    def started(self, n: int) -> None:
        """The handler of one begins."""
        self._started[n] = time.perf_counter()

    def settled(self, n: int) -> None:
        """Redis has acknowledged the end of one."""
        self._settled[n] = time.perf_counter()
        self._countdown.settled()

    async def measure(self, every_us: float, add: Callable[[int], Awaitable]) -> dict:
        """Adds one job every so often, whatever becomes of those before it, and returns how long each took."""
        begin = time.perf_counter()
        adding = []
        for n in range(len(self._added)):
            wait = begin + n * every_us / 1e6 - time.perf_counter()
            if wait > 0:
                # Timers are good for a millisecond.
                await asyncio.sleep(max(wait, 0.001))
            self._added[n] = time.perf_counter()
            adding.append(asyncio.create_task(add(n)))
        await asyncio.gather(*adding)
        await self._countdown.wait()
        return {"start_us": self._since_added(self._started), "settled_us": self._since_added(self._settled)}

    def _since_added(self, times: list[float]) -> list[int]:
        return [round((at - added) * 1e6) for at, added in zip(times, self._added, strict=True)]
