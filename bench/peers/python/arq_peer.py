"""arq: a producer and a worker."""

import asyncio
import contextlib
import time

from arq.connections import ArqRedis, RedisSettings, create_pool
from arq.worker import Worker

from peer import Countdown, place, say, serve

# arq adds one job by a call; so many are under way at once.
AT_ONCE = 100
# A worker looks for jobs twice a second by default, and takes no more at each look than it may run at once: that would
# be all that is measured.
POLL_DELAY = 0.001

url, queue = place()
settings = RedisSettings.from_dsn(url)


async def echo(_context: dict, n: int) -> dict:
    return {"n": n}


async def enqueue(pool: ArqRedis, jobs: int) -> float:
    numbers = iter(range(jobs))

    async def add() -> None:
        for n in numbers:
            await pool.enqueue_job("echo", n, _queue_name=queue)

    start = time.perf_counter()
    await asyncio.gather(*(add() for _ in range(AT_ONCE)))
    return time.perf_counter() - start


async def work(pool: ArqRedis, jobs: int, concurrency: int) -> float:
    countdown = Countdown(jobs)

    async def settled(_context: dict) -> None:
        countdown.settled()

    worker = Worker(
        [echo],
        queue_name=queue,
        redis_pool=pool,
        max_jobs=concurrency,
        poll_delay=POLL_DELAY,
        # It is called once the result is stored and the job is off the queue.
        after_job_end=settled,
        handle_signals=False,
        log_results=False,
    )
    say({"working": True})
    start = time.perf_counter()
    running = asyncio.create_task(worker.async_run())
    await countdown.wait()
    took = time.perf_counter() - start
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    return took


async def main() -> None:
    pool = await create_pool(settings)
    await serve(
        "arq",
        {
            "enqueue": lambda command: enqueue(pool, command["jobs"]),
            "work": lambda command: work(pool, command["jobs"], command["concurrency"]),
        },
    )


asyncio.run(main())
