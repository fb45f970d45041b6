import contextlib
import io
import tempfile
import unittest
from pathlib import Path
from typing import Any

import hog
from sandhog_sdk.testing import FakeHost


class Hog(unittest.TestCase):
    def test_an_echo_is_its_payload(self) -> None:
        self.assertEqual(FakeHost().run(hog.echo, b"\x00\xff\x01").data, b"\x00\xff\x01")

    def test_failing_stops_after_the_attempts_it_was_told(self) -> None:
        def at(attempt: int, payload: Any) -> Any:
            return FakeHost(attempt=attempt).run(hog.fail, payload)

        twice = {"transient": {"attempts": 2}}
        self.assertEqual(str(at(2, twice).failure), "attempt 2 was told to fail")
        self.assertEqual(at(3, twice).output, 3)
        self.assertEqual(at(1, {"retry-after": {"ms": 500, "attempts": 1}}).failure.retry_after_ms, 500)
        self.assertFalse(at(9, {"transient": {}}).failure.permanent)
        self.assertTrue(at(9, "permanent").failure.permanent)

    def test_what_misbehaves_without_end_ends_where_it_is_told_an_end(self) -> None:
        host = FakeHost()
        self.assertEqual(host.run(hog.spin, {"rounds": 3}).output, 1291394886)
        self.assertEqual(host.run(hog.allocate, {"bytes": 1}).output, 1 << 20)
        self.assertIsInstance(host.run(hog.recurse, {"depth": 10}).output, int)
        self.assertEqual(len(host.run(hog.output, {"bytes": 1000}).data or b""), 1000)
        self.assertIsNone(host.run(hog.sleep, {"ms": 1}).failure)
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            self.assertEqual(len(host.run(hog.log, {"lines": 2}).logs), 1)
        self.assertEqual(printed.getvalue().count("\n"), 1)
        self.assertEqual(str(host.run(hog.panic, {}).failure), "AssertionError: the hog was told to")

    def test_state_jobs_secrets_and_files_are_used(self) -> None:
        host = FakeHost(secrets={"TOKEN": "hunter2"})
        for _ in range(2):
            host.run(hog.count, {"counter": "done"})
        self.assertEqual(host.stored("done"), 2)
        self.assertEqual(host.run(hog.swap, {"key": "x", "expected": None, "value": 1}).output, {"swapped": True})
        self.assertEqual(host.run(hog.swap, {"key": "x", "expected": 2, "value": 3}).output, {"swapped": False})
        spawned = host.run(hog.spawn, {"kind": "hog.echo", "count": 2})
        self.assertEqual(spawned.output, [job.id for job in spawned.enqueued])
        self.assertEqual(str(host.run(hog.note, {"text": "hi", "fail": True}).failure), "hi")
        self.assertIsNone(host.stored("note"))
        self.assertEqual(host.run(hog.note, {"text": "hi"}).output, host.stored("note"))
        self.assertEqual(host.run(hog.secret, {"name": "TOKEN"}).output, {"bytes": 7})
        self.assertIn("not granted", host.run(hog.secret, {"name": "OTHER"}).output["refused"])
        self.assertEqual(host.run(hog.remember, None).output + 1, host.run(hog.remember, None).output)
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "a").write_text("hello", encoding="utf-8")
            self.assertEqual(host.run(hog.read, {"path": f"{folder}/a"}).data, b"hello")
            self.assertIn("No such file", str(host.run(hog.read, {"path": f"{folder}/b"}).failure))


if __name__ == "__main__":
    unittest.main()
