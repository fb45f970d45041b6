"""The promises of the real host that the fake one keeps."""

import itertools
import json
import os
import pickle
import unittest
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sandhog_sdk import (
    ABSENT,
    Context,
    Debounce,
    HostError,
    Secret,
    Unique,
    handler,
    permanent,
    rate_limited,
    retry_after,
    transient,
    unavailable,
)
from sandhog_sdk._handler import Handler
from sandhog_sdk._raised import describe
from sandhog_sdk.testing import FakeHost, HttpReply, Limits, Run, assert_enqueued, assert_not_enqueued

_kinds = itertools.count()


def work(run: Callable[[Context], Any]) -> Handler[Any, Any]:
    """A handler of a kind of its own."""
    return handler(f"work.{next(_kinds)}")(lambda ctx, _: run(ctx))


def code(call: Callable[[], Any]) -> str:
    try:
        call()
    except HostError as error:
        return error.code
    return "no refusal"


@handler("mail.send")
def send(ctx: Context, to: str) -> str:
    if to == "never":
        raise permanent("no such address")
    return to


@handler("mail.digest")
def digest(ctx: Context, number: int) -> int:
    return number


class Options(unittest.TestCase):
    def test_one_job_stands_for_many_events_until_none_has_come_for_a_while_or_its_longest_wait_is_over(self) -> None:
        host = FakeHost()

        def event(number: int) -> str:
            return host.enqueue("mail.digest", number, unique=Debounce("k", delay=60, longest=120))

        first = event(1)
        for number in (2, 3):
            self.assertEqual(host.drain([digest], seconds=45), [], "another one came in time")
            self.assertEqual(event(number), first)
        attempts = host.drain([digest])
        self.assertEqual([(attempt.at, attempt.run.output) for attempt in attempts], [(30, 3)])
        self.assertNotEqual(event(4), first, "it has started: the next event makes another")

    def test_a_key_for_a_time_is_held_whatever_becomes_of_its_job(self) -> None:
        host = FakeHost()

        def job() -> str:
            return host.enqueue("mail.digest", 1, unique=Unique("k", until="over", lasts=60))

        first = job()
        host.drain([digest])
        self.assertEqual(job(), first)
        host.advance(60)
        self.assertNotEqual(job(), first)

    def test_what_has_not_started_in_time_is_cancelled_and_what_is_past_its_deadline_is_dead(self) -> None:
        host = FakeHost()
        for start_within, deadline in ((60, None), (None, 60), (120, 180)):
            host.enqueue("mail.digest", 1, delay=60, start_within=start_within, deadline=deadline)
        host.advance(180)
        host.drain([digest])
        self.assertEqual([job.state for job in host.jobs], ["cancelled", "dead", "succeeded"])

    def test_a_job_that_is_put_off_comes_again_with_the_same_attempt_and_has_done_nothing(self) -> None:
        def charge(ctx: Context) -> None:
            ctx.state.increment("tries")
            if (ctx.deadline - ctx.enqueued_at).total_seconds() < 60:
                raise rate_limited(20)

        made = work(charge)
        host = FakeHost(max_attempts=1, remaining=30)
        host.enqueue(made.kind, None)
        attempts = host.drain([made])
        self.assertEqual([attempt.at for attempt in attempts], [0, 20, 40])
        failure = attempts[0].run.failure
        self.assertEqual(None if failure is None else failure.put_off, ("rate-limited", 20_000))
        self.assertEqual((host.jobs[0].state, host.jobs[0].attempts, host.stored("tries")), ("succeeded", 1, 1))

    def test_a_job_whose_service_is_unavailable_comes_again_with_the_same_attempt(self) -> None:
        def refund(ctx: Context) -> None:
            if (ctx.deadline - ctx.enqueued_at).total_seconds() < 60:
                raise unavailable("stripe", 12)

        made = work(refund)
        host = FakeHost(max_attempts=1, remaining=30)
        host.enqueue(made.kind, None)
        attempts = host.drain([made])
        self.assertEqual([attempt.at for attempt in attempts], [0, 12, 24, 36])
        failure = attempts[0].run.failure
        self.assertEqual(None if failure is None else failure.downstream, "stripe")
        self.assertEqual((host.jobs[0].state, host.jobs[0].attempts), ("succeeded", 1))
        self.assertEqual(unavailable("stripe").put_off, ("unavailable", 10_000))
        self.assertEqual(rate_limited(1, "stripe").downstream, "stripe")

    def test_a_handler_finds_what_its_job_was_given(self) -> None:
        def look(ctx: Context) -> Any:
            labels = {"b": "2", "a": "1"}
            ctx.enqueue("mail.digest", 1, group="bob", labels=labels, content_type="text/plain", start_within=1, deadline=2)
            return [ctx.group, list(ctx.labels.items()), ctx.content_type, ctx.job_deadline]

        host = FakeHost(group="ann", labels={"env": "prod", "a": ""}, content_type="text/csv")
        run = host.run(work(look), None)
        self.assertEqual(run.output, ["ann", [["a", ""], ["env", "prod"]], "text/csv", None])
        (job,) = run.enqueued
        self.assertEqual((job.group, list(job.labels.items())), ("bob", [("a", "1"), ("b", "2")]))
        self.assertEqual((job.content_type, job.start_within_ms, job.deadline_ms), ("text/plain", 1000, 2000))

    def test_options_that_rule_each_other_out_are_refused(self) -> None:
        def enqueue(ctx: Context) -> list[str]:
            with self.assertRaises(ValueError):
                ctx.enqueue("mail.send", 1, delay=1, at=datetime.now(UTC))
            with self.assertRaises(ValueError):
                ctx.enqueue("mail.send", 1, unique_key="k", unique=Unique("k"))
            labels = {f"n{number}": "" for number in range(17)}
            return [
                code(lambda: ctx.enqueue("mail.send", 1, unique=Unique("k", until="over"))),
                code(lambda: ctx.enqueue("mail.send", 1, labels=labels)),
            ]

        self.assertEqual(FakeHost().run(work(enqueue), None).output, ["invalid", "invalid"])


class State(unittest.TestCase):
    def test_an_increment_meets_what_is_stored_only_when_it_is_written(self) -> None:
        def increment(ctx: Context) -> None:
            ctx.state.increment("text")
            ctx.state.set("beside", 1)
            self.assertEqual(code(lambda: ctx.state.get("text")), "not-a-number", "whoever looks is told")

        host = FakeHost(state={"text": "x"})
        failure = host.run(work(increment), None).failure
        assert failure is not None
        self.assertIn("state `text` was changed", str(failure))
        self.assertEqual((failure.permanent, host.stored("beside")), (False, None), "all of it is written, or nothing")

    def test_a_stored_null_is_not_the_same_as_nothing(self) -> None:
        def swap(ctx: Context) -> list[bool]:
            swap = ctx.state.compare_and_set
            return [swap("owner", ABSENT, "ann"), swap("owner", None, "ann"), swap("new", None, 1), swap("new", ABSENT, 1)]

        host = FakeHost(state={"owner": None})
        self.assertEqual(host.run(work(swap), None).output, [False, True, False, True])
        self.assertEqual((host.stored("owner"), repr(ABSENT)), ("ann", "ABSENT"))


class Jobs(unittest.TestCase):
    def test_a_unique_key_is_free_as_soon_as_its_job_is_final(self) -> None:
        for payload, state in [("ann", "succeeded"), ("never", "dead"), ("ann", "cancelled")]:
            host = FakeHost()
            first = host.enqueue("mail.send", payload, unique_key="k")
            self.assertEqual(host.enqueue("mail.send", payload, unique_key="k"), first, "it is held")
            if state == "cancelled":
                host.cancel(first)
            else:
                host.drain([send])
            self.assertEqual(host.jobs[0].state, state)
            self.assertNotEqual(host.enqueue("mail.send", payload, unique_key="k"), first, f"{state}: it is free")

    def test_a_job_may_enqueue_its_successor_under_its_own_unique_key(self) -> None:
        @handler("clean.up")
        def clean_up(ctx: Context, input: object) -> None:
            ctx.enqueue("clean.up", None, unique_key="one", delay=60)

        host = FakeHost()
        host.enqueue("clean.up", None, unique_key="one")
        self.assertEqual([attempt.at for attempt in host.drain([clean_up], seconds=120)], [0, 60, 120])

    def test_each_run_is_one_of_a_job_of_its_own(self) -> None:
        host, ids = FakeHost(), []
        for fails in (False, True, False):

            def run(ctx: Context, fails: bool = fails) -> None:
                self.assertEqual(ctx.job_id, ctx.idempotency_key)
                ids.append(ctx.job_id)
                ctx.enqueue("mail.send", "ann")
                if fails:
                    raise permanent("no")

            host.run(work(run), None)
        self.assertEqual(len({*ids, *(job.id for job in host.jobs)}), 5, "no id is given twice")

    def test_time_that_goes_by_in_a_run_is_what_is_left_of_it_less(self) -> None:
        host = FakeHost(remaining=60)

        def early(ctx: Context) -> list[Any]:
            host.advance(15)
            return [ctx.remaining, ctx.deadline == datetime.fromtimestamp(1_750_000_060, UTC)]

        def late(ctx: Context) -> float:
            ctx.state.set("late", 1)
            host.advance(120)
            return ctx.remaining

        self.assertEqual(host.run(work(early), None).output, [45, True])
        run = host.run(work(late), None)
        assert run.failure is not None
        self.assertIn("timed out", str(run.failure))
        self.assertEqual((run.output, run.failure.permanent, host.stored("late")), (None, False, None))

    def test_what_waits_is_run_with_retries_as_time_goes_on(self) -> None:
        @handler("order.place")
        def place(ctx: Context, fails: int) -> int:
            ctx.state.increment("tried")
            if ctx.attempt <= fails:
                raise transient("not yet")
            ctx.enqueue("mail.send", "ann", delay=60, queue="mails")
            return ctx.attempt

        host = FakeHost()
        host.enqueue("order.place", 2)
        attempts = host.drain([place, send])
        self.assertEqual(
            [(each.job.kind, each.job.attempts, each.at, each.run.output) for each in attempts],
            [("order.place", 1, 0, None), ("order.place", 2, 2, None), ("order.place", 3, 6, 3), ("mail.send", 1, 66, "ann")],
        )
        self.assertEqual(host.stored("tried"), 1, "what failed has written nothing")
        self.assertEqual(host.drain([place, send]), [], "nothing is left")

    def test_a_job_that_fails_too_often_or_for_good_is_dead_and_one_that_nobody_handles_waits(self) -> None:
        @handler("always.late")
        def late(ctx: Context, input: object) -> None:
            raise retry_after(60, "later")

        host = FakeHost(max_attempts=3)
        host.enqueue("always.late", None)
        host.enqueue("mail.send", "never")
        host.enqueue("nobody.handles", None, queue="aside")
        attempts = host.drain([late, send])
        self.assertEqual([each.at for each in attempts if each.job.kind == "always.late"], [0, 60, 120])
        self.assertEqual([(job.state, job.attempts) for job in host.jobs], [("dead", 3), ("dead", 1), ("waiting", 0)])

    def test_what_is_due_runs_by_priority_and_then_by_age(self) -> None:
        host = FakeHost()
        for text, priority, delay in [("first", 100, 0), ("second", 100, 0), ("urgent", 200, 0), ("later", 255, 9)]:
            host.enqueue("mail.send", text, priority=priority, delay=delay)
        self.assertEqual([each.job.payload for each in host.drain([send])], ["urgent", "first", "second", "later"])

    def test_jobs_without_end_are_found(self) -> None:
        @handler("endless.chain")
        def endless(ctx: Context, input: object) -> None:
            ctx.enqueue("endless.chain", None)

        host = FakeHost()
        host.enqueue("endless.chain", None)
        with self.assertRaisesRegex(RuntimeError, "do they enqueue each other without end?"):
            host.drain([endless])

    def test_an_assertion_on_what_was_enqueued_lists_it(self) -> None:
        def enqueue(ctx: Context) -> None:
            ctx.enqueue("mail.send", {"to": "ann", "tags": ["a", "b"]}, delay=60, unique_key="welcome ann")
            ctx.enqueue("sms.send", "hi", queue="slow", priority=7)

        host = FakeHost()
        run: Run = host.run(work(enqueue), None)
        self.assertEqual(assert_enqueued(run, "mail.send", {"to": "ann"}).delay_ms, 60_000)
        assert_enqueued(host, "mail.send", {"tags": ["a", "b"]})
        assert_enqueued(host, "sms.send", lambda text: text.startswith("h"))
        assert_not_enqueued(run, "mail.send", {"tags": ["a"]})
        assert_not_enqueued(run, "push.send")
        with self.assertRaises(AssertionError) as raised:
            assert_enqueued(run, "mail.send", {"to": "bob"})
        for part in (
            "no job of kind `mail.send` was enqueued with a payload like {'to': 'bob'}",
            'mail.send {"to": "ann", "tags": ["a", "b"]}, after 60 s, unique key \'welcome ann\'',
            'sms.send "hi", queue slow, priority 7',
        ):
            self.assertIn(part, str(raised.exception))
        with self.assertRaisesRegex(AssertionError, 'sms.send "hi"'):
            assert_not_enqueued(run, "sms.send")

    def test_limits_are_those_of_a_plugin_that_sets_none_unless_the_test_does(self) -> None:
        def cope(ctx: Context) -> str:
            ctx.enqueue("mail.send", bytes(10 << 10))
            return code(lambda: ctx.enqueue("mail.send", bytes((10 << 10) + 1)))

        run = FakeHost().run(work(cope), None)
        self.assertEqual((run.output, len(run.enqueued)), ("limit", 1), "whoever copes succeeds")

        def too_large(ctx: Context) -> None:
            code(lambda: ctx.state.set("a", "x" * 100))

        cases: list[tuple[str, Callable[[Context], Any]]] = [
            ("limits.enqueues", lambda ctx: [ctx.enqueue("mail.send", one) for one in (1, 2)]),
            ("limits.state_writes", lambda ctx: [ctx.state.set(key, 1) for key in "ab"]),  # type: ignore[func-returns-value]
            ("limits.effects", too_large),
            ("limits.output", lambda ctx: "x" * 10),
        ]
        for says, too_much in cases:
            host = FakeHost(limits=Limits(enqueues=1, state_writes=1, effects=100, output=10))
            failure = host.run(work(too_much), None).failure
            assert failure is not None and failure.permanent, says
            self.assertIn(says, str(failure))

    def test_a_name_that_the_contract_has_not_is_refused(self) -> None:
        def enqueue(ctx: Context) -> list[str]:
            return [
                code(lambda: ctx.enqueue("Mail", 1)),
                code(lambda: ctx.enqueue("mail.send", 1, queue="")),
                code(lambda: ctx.enqueue("mail.send", 1, unique_key="k" * 257)),
                code(lambda: ctx.enqueue("mail.send", 1, unique_key="a\nb")),
            ]

        self.assertEqual(FakeHost().run(work(enqueue), None).output, ["invalid"] * 4)


class Surroundings(unittest.TestCase):
    def test_files_are_found_where_they_are_granted_and_nowhere_else_and_are_written_at_once(self) -> None:
        def copy(origin: str, to: str) -> Handler[Any, Any]:
            return work(lambda ctx: ctx.path(to).write_bytes(ctx.path(origin).read_bytes()))

        host = FakeHost(files={"/in/deep/a.csv": "1,2"}, dirs=["/out"])
        self.assertIsNone(host.run(copy("/in/deep/a.csv", "/out/b.csv"), None).failure)
        self.assertEqual(host.path("/out/b.csv").read_text(encoding="utf-8"), "1,2")
        for origin, to in [
            ("/out/b.csv", "/elsewhere/b.csv"),
            ("/etc/passwd", "/out/passwd"),
            ("/out/../../../../etc/passwd", "/out/passwd"),
        ]:
            self.assertIn("FileNotFoundError", str(host.run(copy(origin, to), None).failure))
        self.assertIsNotNone(FakeHost().run(copy("/etc/passwd", "/x"), None).failure)

        def write_and_fail(ctx: Context) -> None:
            ctx.path("/out/b.csv").write_text("3", encoding="utf-8")
            raise permanent("no")

        host.run(work(write_and_fail), None)
        self.assertEqual(host.path("/out/b.csv").read_text(encoding="utf-8"), "3")

    def test_a_variable_is_had_if_it_is_granted(self) -> None:
        run = FakeHost(env={"MODE": "dry"}).run(work(lambda ctx: dict(os.environ)), None)
        self.assertEqual(run.output, {"MODE": "dry"})
        self.assertIn("PATH", os.environ)

    def test_a_request_finds_what_is_in_the_table_and_is_refused_what_isnt(self) -> None:
        def ask(ctx: Context) -> list[Any]:
            got = ctx.http.get("https://api.example/a", headers={"Authorization": "hunter2"})
            replies = [ctx.http.get("https://api.example/b?q=1") for _ in range(3)]
            posted = ctx.http.post("https://api.example/echo", json={"a": "ü"}, headers={"X-Id": "7"})
            codes = [
                code(lambda: ctx.http.get(url)) for url in ("https://down.example/", "https://other.example/", "nowhere", "http://[")
            ]
            return [got.json(), got.headers["x-one"], [(reply.status, reply.text) for reply in replies], posted.status, posted.text, codes]

        host = FakeHost(
            http={
                "GET https://api.example/a": HttpReply(json=[1], headers={"X-One": "1"}),
                "GET https://api.example/*": [HttpReply(503), HttpReply(body="then")],
                "POST https://api.example/echo": lambda request: HttpReply(201, body=request.headers["x-id"].encode() + request.body),
                "* https://down.example/*": HttpReply(error="connection refused"),
            }
        )
        run = host.run(work(ask), None)
        self.assertIsNone(run.failure)
        expected = [[1], "1", [[503, ""], [200, "then"], [200, "then"]], 201, '7{"a":"ü"}', ["failed", "not-granted", "invalid", "invalid"]]
        self.assertEqual(run.output, expected)
        methods = [each.method for each in run.requests]
        self.assertEqual(methods, ["GET"] * 4 + ["POST"] + ["GET"] * 2)
        self.assertNotIn("hunter2", repr(run.requests))

    def test_a_secret_doesnt_show_itself_and_is_had_by_asking(self) -> None:
        def use(ctx: Context) -> int:
            secret = ctx.secret("TOKEN")
            self.assertIsInstance(secret, Secret)
            ctx.log.info("asked", secret=secret, nested={"secret": secret})
            for text in (
                lambda: f"Bearer {secret}",
                lambda: "Bearer %s" % secret,
                lambda: "Bearer " + secret,  # type: ignore[operator]
                lambda: str(secret),
                lambda: json.dumps({"secret": secret}),
                lambda: ctx.enqueue("mail.send", {"secret": secret}),
                lambda: pickle.dumps(secret),
            ):
                with self.assertRaises(TypeError):
                    text()
            self.assertEqual(repr({"secret": secret}), "{'secret': Secret(…)}")
            self.assertEqual({secret: 1}[ctx.secret("TOKEN")], 1)
            return len(f"Bearer {secret.expose()}")

        run = FakeHost(secrets={"TOKEN": "hunter2"}).run(work(use), None)
        self.assertIsNone(run.failure)
        self.assertEqual((run.output, run.logs[0].fields), (14, {"secret": "Secret(…)", "nested": '{"secret": "Secret(…)"}'}))

    def test_a_log_field_that_cant_be_shown_fails_no_job(self) -> None:
        class Broken:
            def __str__(self) -> str:
                raise RuntimeError("no text")

        endless: list[Any] = []
        endless.append(endless)
        run = FakeHost().run(work(lambda ctx: ctx.log.info("seen", broken=Broken(), endless=endless)), None)
        self.assertIsNone(run.failure)
        expected = {"broken": "(not shown: RuntimeError)", "endless": "(not shown: ValueError)"}
        self.assertEqual(run.logs[0].fields, expected)


class Raised(unittest.TestCase):
    """What the log says of an exception."""

    def described(self, call: Callable[[], Any]) -> str:
        try:
            call()
        except Exception as error:
            message, stack = describe(error)
            self.assertIn(f"line {call.__code__.co_firstlineno}", stack)
            self.assertIn("<lambda>", stack)
            return message
        self.fail("it raises nothing")

    def test_values_that_python_itself_quotes_are_left_out(self) -> None:
        payload: dict[Any, Any] = {"card": "4111 1111", "user": "hunter2"}
        for call, expected in [
            (lambda: int(payload["user"]), "ValueError: invalid literal for int() with base 10: '…'"),
            (lambda: float(payload["card"]), "ValueError: could not convert string to float: '…'"),
            (lambda: {}[payload["user"]], "KeyError"),
            (lambda: payload[4111], "KeyError"),
            (lambda: datetime.fromisoformat(payload["user"]), "ValueError: Invalid isoformat string: '…'"),
            (lambda: open(payload["user"]), "FileNotFoundError: [Errno 2] No such file or directory: '…'"),
        ]:
            self.assertEqual(self.described(call), expected)

    def test_names_of_the_code_and_what_somebody_wrote_are_kept(self) -> None:
        def fail(text: str) -> None:
            raise ValueError(text)

        nothing: Any = None
        self.assertEqual(self.described(lambda: nothing.foo), "AttributeError: 'NoneType' object has no attribute 'foo'")
        self.assertEqual(self.described(lambda: fail("the list 'a' is empty")), "ValueError: the list 'a' is empty")
        self.assertTrue(self.described(lambda: fail("x" * 5000)).endswith("x…"))
        self.assertEqual(self.described(lambda: 1 / 0), "ZeroDivisionError: division by zero")


if __name__ == "__main__":
    unittest.main()
