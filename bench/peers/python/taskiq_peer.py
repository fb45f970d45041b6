"""taskiq with its Redis stream, which acknowledges, and a result backend: a producer and a worker."""

import asyncio
import contextlib
import time

from taskiq.api import run_receiver_task
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from peer import Countdown, place, say, serve

# taskiq adds one job by a call; so many are under way at once.
AT_ONCE = 100
HOUR = 3600

url, queue = place()
countdown: Countdown


class CountingBroker(RedisStreamBroker):
    """Counts the jobs that Redis has acknowledged as done; their results are stored by then."""

    def _ack_generator(self, id: str, queue_name: str):
        ack = super()._ack_generator(id, queue_name)

        async def counted() -> None:
            await ack()
            countdown.settled()

        return counted


# A group that begins at the end of its stream would not see what was added before it is there.
broker = CountingBroker(url, queue_name=queue, consumer_id="0").with_result_backend(
    RedisAsyncResultBackend(url, result_ex_time=HOUR)
)


@broker.task
async def echo(n: int) -> dict:
    return {"n": n}


async def enqueue(jobs: int) -> float:
    numbers = iter(range(jobs))

    async def add() -> None:
        for n in numbers:
            await echo.kiq(n)

    start = time.perf_counter()
    await asyncio.gather(*(add() for _ in range(AT_ONCE)))
    return time.perf_counter() - start


async def work(jobs: int, concurrency: int) -> float:
    global countdown
    countdown = Countdown(jobs)
    # The group of consumers is gone with all that Redis had to forget.
    await broker.startup()
    say({"working": True})
    start = time.perf_counter()
    running = asyncio.create_task(run_receiver_task(broker, max_async_tasks=concurrency, run_startup=False))
    await countdown.wait()
    took = time.perf_counter() - start
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    return took


async def main() -> None:
    await broker.startup()
    await serve(
        "taskiq",
        {
            "enqueue": lambda command: enqueue(command["jobs"]),
            "work": lambda command: work(command["jobs"], command["concurrency"]),
        },
    )
    await broker.shutdown()


asyncio.run(main())
