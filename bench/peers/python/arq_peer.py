"""arq: a producer and a worker."""

import asyncio
import contextlib
import time
from collections.abc import Callable

from arq.connections import ArqRedis, RedisSettings, create_pool
from arq.worker import Worker, func

from peer import Countdown, Latency, place, say, serve

# arq adds one job by a call; so many are under way at once.
AT_ONCE = 100
# A worker looks for jobs twice a second by default, and takes no more at each look than it may run at once: that would
# be all that is measured.
POLL_DELAY = 0.001

url, queue = place()
settings = RedisSettings.from_dsn(url)


async def echo(_context: dict, n: int) -> dict:
    return {"n": n}


async def enqueue(pool: ArqRedis, jobs: int) -> dict:
    numbers = iter(range(jobs))

    async def add() -> None:
        for n in numbers:
            await pool.enqueue_job("echo", n, _queue_name=queue)

    start = time.perf_counter()
    await asyncio.gather(*(add() for _ in range(AT_ONCE)))
    return {"seconds": time.perf_counter() - start}


def worker_of(pool: ArqRedis, concurrency: int, handler: Callable, settled: Callable[[dict], None]) -> Worker:
    async def after_job_end(context: dict) -> None:
        settled(context)

    return Worker(
        [func(handler, name="echo")],
        queue_name=queue,
        redis_pool=pool,
        max_jobs=concurrency,
        poll_delay=POLL_DELAY,
        # It is called once the result is stored and the job is off the queue.
        after_job_end=after_job_end,
        handle_signals=False,
        log_results=False,
    )


async def work(pool: ArqRedis, jobs: int, concurrency: int) -> dict:
    countdown = Countdown(jobs)
    worker = worker_of(pool, concurrency, echo, lambda _context: countdown.settled())
    say({"working": True})
    start = time.perf_counter()
    running = asyncio.create_task(worker.async_run())
    await countdown.wait()
    took = time.perf_counter() - start
    await stop(running)
    return {"seconds": took}


async def latency(pool: ArqRedis, jobs: int, every_us: float, concurrency: int) -> dict:
    times = Latency(jobs)
    numbers: dict[str, int] = {}

    async def timed(context: dict, n: int) -> dict:
        times.started(n)
        numbers[context["job_id"]] = n
        return {"n": n}

    def settled(context: dict) -> None:
        times.settled(numbers.pop(context["job_id"]))

    running = asyncio.create_task(worker_of(pool, concurrency, timed, settled).async_run())
    answer = await times.measure(every_us, lambda n: pool.enqueue_job("echo", n, _queue_name=queue))
    await stop(running)
    return answer


async def stop(running: asyncio.Task) -> None:
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def main() -> None:
    pool = await create_pool(settings)
    await serve(
        "arq",
        {
            "enqueue": lambda command: enqueue(pool, command["jobs"]),
            "work": lambda command: work(pool, command["jobs"], command["concurrency"]),
            "latency": lambda command: latency(
                pool, command["jobs"], command["every_us"], command["concurrency"]
            ),
        },
    )


asyncio.run(main())
