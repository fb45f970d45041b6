import dataclasses
import unittest
from datetime import UTC, datetime, timedelta
from typing import Any

from sandhog_sdk import ABSENT, Context, HostError, handler, permanent, retry_after, transient
from sandhog_sdk._handler import dispatch
from sandhog_sdk._host import Job
from sandhog_sdk.build import kinds_section
from sandhog_sdk.testing import FakeHost, LogLine, Progress


@handler("greet.hello")
def hello(ctx: Context, input: dict[str, str]) -> dict[str, str]:
    """Greets."""
    ctx.state.increment("greeted")
    ctx.log.info("greeting", attempt=ctx.attempt, who=input)
    ctx.progress(1, 2, "half")
    if input["name"] == "":
        raise permanent("whom to greet?")
    return {"greeting": f"hello, {input['name']}"}


class Handlers(unittest.TestCase):
    def test_what_a_handler_returns_is_the_output_and_what_it_wrote_is_stored(self) -> None:
        host = FakeHost(attempt=2, state={"greeted": 41})
        run = host.run(hello, {"name": "Ann"})
        self.assertEqual(run.output, {"greeting": "hello, Ann"})
        self.assertEqual(run.logs, [LogLine("info", "greeting", {"attempt": "2", "who": '{"name": "Ann"}'})])
        self.assertEqual(run.progress, [Progress(1, 2, "half")])
        self.assertEqual(host.stored("greeted"), 42)
        self.assertEqual(hello.__doc__, "Greets.")

    def test_a_failure_writes_nothing_and_says_what_it_means(self) -> None:
        host = FakeHost(state={"greeted": 41})
        run = host.run(hello, {"name": ""})
        assert run.failure is not None
        self.assertEqual((str(run.failure), run.failure.permanent), ("whom to greet?", True))
        self.assertEqual((run.output, run.enqueued, host.stored("greeted")), (None, [], 41))

    def test_any_other_exception_means_that_the_job_is_tried_again_and_tells_its_causes(self) -> None:
        def caused(error: Exception, cause: Exception | None = None) -> Exception:
            error.__cause__ = cause
            return error

        cases = [
            (caused(Exception("load the list"), KeyError("list")), "load the list: KeyError: 'list'", None),
            (retry_after(1.5, "not yet"), "not yet", 1500),
            (retry_after(timedelta(milliseconds=0.5), "soon"), "soon", 1),
            (caused(transient("reset"), OSError("by peer")), "reset: OSError: by peer", None),
            (ZeroDivisionError(), "ZeroDivisionError", None),
        ]
        for at, (error, message, wait) in enumerate(cases):

            @handler(f"failing.{at}")
            def failing(ctx: Context, input: object, error: Exception = error) -> None:
                raise error

            failure = FakeHost().run(failing, None).failure
            assert failure is not None
            self.assertEqual((str(failure), failure.permanent, failure.retry_after_ms), (message, False, wait))
        with self.assertRaises(ValueError):
            retry_after(float("nan"), "x")

    def test_a_payload_or_output_that_cant_be_is_not_tried_again_and_isnt_shown(self) -> None:
        failure = FakeHost().run(hello, b'{"name":\n hunter2}').failure
        assert failure is not None and failure.permanent
        self.assertRegex(str(failure), "^the payload is no input of `greet.hello`: .*not JSON at line 2 column 2")
        self.assertNotIn("hunter2", str(failure))
        self.assertIn("not UTF-8", str(FakeHost().run(hello, b"\xff").failure))

        @handler("no.json")
        def no_json(ctx: Context, input: object) -> object:
            return input

        self.assertEqual(FakeHost().run(no_json, 1).output, 1)

        @handler("no.json.set")
        def a_set(ctx: Context, input: object) -> object:
            return {1, 2}

        failure = FakeHost().run(a_set, None).failure
        assert failure is not None and failure.permanent
        self.assertIn("the output of `no.json.set` has no JSON form: TypeError: a set has no JSON form", str(failure))

    def test_an_input_may_be_parsed_or_be_bytes_and_dataclasses_are_json(self) -> None:
        @dataclasses.dataclass
        class Order:
            cents: int

            def __post_init__(self) -> None:
                if not isinstance(self.cents, int):
                    raise TypeError("`cents` is a whole number")

        @handler("order", input=lambda value: Order(**value))
        def order(ctx: Context, order: Order) -> Order:
            return dataclasses.replace(order, cents=order.cents + 1)

        self.assertEqual(FakeHost().run(order, {"cents": 5}).output, {"cents": 6})
        failure = FakeHost().run(order, {"cents": "5"}).failure
        assert failure is not None and failure.permanent
        self.assertIn("`cents` is a whole number", str(failure))

        @handler("reverse", input=bytes)
        def reverse(ctx: Context, payload: bytes) -> bytes:
            return payload[::-1]

        self.assertEqual(FakeHost().run(reverse, b"\xff\x01").data, b"\x01\xff")

    def test_a_component_says_which_kinds_it_has(self) -> None:
        host: Any = None
        with self.assertRaisesRegex(Exception, "no handler of `greet.bye`, only of .*`greet.hello`"):
            dispatch(host, Job("1", "greet.bye", b""))
        with self.assertRaisesRegex(ValueError, "two handlers"):
            handler("greet.hello")
        with self.assertRaises(ValueError):
            handler("")

    def test_a_context_tells_what_the_host_knows(self) -> None:
        @handler("facts")
        def facts(ctx: Context, input: object) -> object:
            self.assertEqual(ctx.deadline, datetime.fromtimestamp(1_750_000_005, UTC))
            return [
                *(ctx.job_id, ctx.kind, ctx.tenant, ctx.queue, ctx.attempt, ctx.max_attempts, ctx.idempotency_key),
                *(ctx.remaining, ctx.stop_requested),
            ]

        host = FakeHost(
            tenant="globex", queue="slow", job_id="01J", attempt=3, max_attempts=4, remaining=5, stop_requested="draining"
        )
        expected = ["01J", "facts", "globex", "slow", 3, 4, "01J", 5, "draining"]
        self.assertEqual(host.run(facts, None).output, expected)

    def test_state_reads_what_the_run_wrote_and_lasts_from_run_to_run(self) -> None:
        host = FakeHost(state={"text": "hello"})

        @handler("state.1")
        def first(ctx: Context, input: object) -> object:
            ctx.state.set("raw", b"\xff")
            ctx.state.set("brief", {"a": 1}, ttl=1)
            ctx.state.increment("n", 5)
            ctx.state.increment("n", -2)
            ctx.state.delete("text")
            return [ctx.state.get("text"), ctx.state.get("n"), ctx.state.get("brief"), len(ctx.state.get_bytes("raw") or b"")]

        self.assertEqual(host.run(first, None).output, [None, 3, {"a": 1}, 1])
        host.advance(1)
        self.assertIsNone(host.stored("brief"))

        @handler("state.2")
        def second(ctx: Context, input: object) -> object:
            swap = ctx.state.compare_and_set
            return [swap("n", 4, 5), swap("n", 3, 4), swap("new", ABSENT, 1), ctx.state.get("n"), ctx.state.get("no", 7)]

        self.assertEqual(host.run(second, None).output, [False, True, True, 4, 7])

    def test_a_refusal_has_a_code_that_a_handler_can_look_at(self) -> None:
        @handler("codes")
        def codes(ctx: Context, input: object) -> object:
            found = []
            ctx.state.set("word", "x")
            ctx.state.set("big", 1)
            for call in (
                lambda: ctx.secret("TOKEN"),
                lambda: ctx.state.increment("word"),
                lambda: ctx.state.increment("big", 2**63 - 1),
                lambda: ctx.state.get(""),
                lambda: ctx.state.get("a\nb"),
                lambda: ctx.enqueue("no.such", 1),
            ):
                try:
                    call()
                except HostError as error:
                    found.append(error.code)
            return found

        host = FakeHost(unknown_kinds=["no.such"])
        expected = ["not-granted", "not-a-number", "not-a-number", "invalid-key", "invalid-key", "unknown-kind"]
        self.assertEqual(host.run(codes, None).output, expected)

        @handler("look")
        def look(ctx: Context, input: object) -> object:
            return ctx.state.get("x")

        failure = FakeHost(state_unavailable="the store is away").run(look, None).failure
        assert failure is not None
        self.assertEqual((str(failure), failure.permanent), ("the store is away", False))

    def test_numbers_that_the_contract_has_not_are_refused_and_end_nothing(self) -> None:
        @handler("ranges")
        def ranges(ctx: Context, input: object) -> None:
            for call in (
                lambda: ctx.state.increment("n", 2**63),
                lambda: ctx.state.set("n", 1, ttl=-1),
                lambda: ctx.enqueue("x.y", 1, delay=float("nan")),
                lambda: ctx.enqueue("x.y", 1, priority=256),
                lambda: ctx.progress(-1),
            ):
                with self.assertRaises(ValueError):
                    call()

        self.assertIsNone(FakeHost().run(ranges, None).failure)

    def test_a_job_with_a_unique_key_is_enqueued_once(self) -> None:
        @handler("welcome")
        def welcome(ctx: Context, user: str) -> str:
            return ctx.enqueue("mail.send", {"user": user}, unique_key=f"welcome {user}", delay=0.01, queue="mail")

        host = FakeHost()
        first = host.run(welcome, "ann")
        self.assertEqual([first.output], [job.id for job in first.enqueued])
        host.run(welcome, "ann")
        host.run(welcome, "bob")
        found = [(job.payload["user"], job.queue, job.delay_ms, job.priority) for job in host.jobs]
        self.assertEqual(found, [("ann", "mail", 10, 100), ("bob", "mail", 10, 100)])

        @handler("greet")
        def greet(ctx: Context, user: str) -> str:
            return ctx.enqueue("sms.send", {"user": user}, unique_key=f"welcome {user}")

        host.run(greet, "ann")
        self.assertEqual([job.kind for job in host.jobs], ["mail.send", "mail.send", "sms.send"])

    def test_kinds_are_declared_in_a_section_of_the_component(self) -> None:
        self.assertEqual(kinds_section(["a.run", "b.run"]), b"\0\x1a\rsandhog:kindsa.run\nb.run\n")
        long = kinds_section(["k" * 126])
        self.assertEqual(long[:3], bytes([0, 0x80 | (141 & 0x7F), 1]), "a length of more than seven bits")


if __name__ == "__main__":
    unittest.main()
