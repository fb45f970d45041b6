"""taskiq with its Redis stream, which acknowledges, and a result backend: a producer and a worker."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable

from taskiq import AckableMessage
from taskiq.api import run_receiver_task
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from peer import Countdown, Latency, place, say, serve

# taskiq adds one job by a call; so many are under way at once.
AT_ONCE = 100
HOUR = 3600

url, queue = place()
# Told when a handler begins, with its number; and when the job of a message is settled.
started: Callable[[int], None]
settled: Callable[[bytes], None]


class TellingBroker(RedisStreamBroker):
    """Tells of the jobs that Redis has acknowledged as done; their results are stored by then."""

    async def listen(self) -> AsyncGenerator[AckableMessage, None]:
        async for message in super().listen():
            yield AckableMessage(data=message.data, ack=self._telling(message))

    def _telling(self, message: AckableMessage) -> Callable[[], Awaitable[None]]:
        async def ack() -> None:
            await message.ack()
            settled(message.data)

        return ack


# A group that begins at the end of its stream would not see what was added before it is there.
broker = TellingBroker(url, queue_name=queue, consumer_id="0").with_result_backend(
    RedisAsyncResultBackend(url, result_ex_time=HOUR)
)


@broker.task
async def echo(n: int) -> dict:
    started(n)
    return {"n": n}


async def enqueue(jobs: int) -> dict:
    numbers = iter(range(jobs))

    async def add() -> None:
        for n in numbers:
            await echo.kiq(n)

    start = time.perf_counter()
    await asyncio.gather(*(add() for _ in range(AT_ONCE)))
    return {"seconds": time.perf_counter() - start}


async def work(jobs: int, concurrency: int) -> dict:
    global started, settled
    countdown = Countdown(jobs)
    started, settled = lambda _n: None, lambda _message: countdown.settled()
    # The group of consumers is gone with all that Redis had to forget.
    await broker.startup()
    say({"working": True})
    start = time.perf_counter()
    running = asyncio.create_task(run_receiver_task(broker, max_async_tasks=concurrency, run_startup=False))
    await countdown.wait()
    took = time.perf_counter() - start
    await stop(running)
    return {"seconds": took}


async def latency(jobs: int, every_us: float, concurrency: int) -> dict:
    global started, settled
    times = Latency(jobs)
    started, settled = times.started, lambda message: times.settled(broker.formatter.loads(message).args[0])
    await broker.startup()
    running = asyncio.create_task(run_receiver_task(broker, max_async_tasks=concurrency, run_startup=False))
    answer = await times.measure(every_us, echo.kiq)
    await stop(running)
    return answer


async def stop(running: asyncio.Task) -> None:
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def main() -> None:
    await broker.startup()
    await serve(
        "taskiq",
        {
            "enqueue": lambda command: enqueue(command["jobs"]),
            "work": lambda command: work(command["jobs"], command["concurrency"]),
            "latency": lambda command: latency(command["jobs"], command["every_us"], command["concurrency"]),
        },
    )
    await broker.shutdown()


asyncio.run(main())
