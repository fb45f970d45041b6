"""The host scenarios of `sdk/scenarios`, played against the fake host."""

import json
import unittest
from pathlib import Path
from typing import Any

from play import play
from sandhog_sdk import NewJobOptions
from sandhog_sdk.testing import EnqueuedJob, FakeHost, HttpReply, Limits, Run

_SCENARIOS = Path(__file__).resolve().parents[3] / "sdk/scenarios/host.json"


_WEB = "http://web.example"


def host_of(given: dict[str, Any]) -> FakeHost:
    limits = Limits(**given.get("limits", {}))
    surroundings = {name: given[name] for name in ("secrets", "env", "files", "dirs", "max_attempts") if name in given}
    surroundings["env"] = {"WEB": _WEB, **given.get("env", {})}
    http = {request.replace(" ", f" {_WEB}"): HttpReply(**reply) for request, reply in given.get("http", {}).items()}
    return FakeHost(unknown_kinds=["no.such"], limits=limits, http=http, **surroundings)


def answers_of(run: Run) -> list[Any]:
    return [json.loads(line.fields["answer"]) for line in run.logs if line.message == "answer"]


def described(job: EnqueuedJob) -> dict[str, Any]:
    """What a job has beside the usual is there only if it has it."""
    unusual = {
        **{"group": job.group, "content_type": job.content_type, "labels": job.labels or None},
        **{"start_within_ms": job.start_within_ms, "deadline_ms": job.deadline_ms},
    }
    return {
        **{"kind": job.kind, "payload": job.payload, "queue": job.queue, "delayed": job.delay_ms > 0},
        **{"priority": job.priority, "unique_key": job.unique_key, "state": job.state},
        **{name: value for name, value in unusual.items() if value is not None},
    }


class Scenarios(unittest.TestCase):
    def test_the_fake_host_does_as_the_scenarios_say(self) -> None:
        scenarios = json.loads(_SCENARIOS.read_text(encoding="utf-8"))
        self.assertTrue(scenarios)
        for scenario in scenarios:
            with self.subTest(scenario["name"]):
                host = host_of(scenario.get("host", {}))
                for act in scenario["play"]:
                    if "cancel" in act:
                        waiting = [job for job in host.jobs if (job.unique_key, job.state) == (act["cancel"], "waiting")]
                        host.cancel(waiting[0].id)
                    else:
                        self.play_job(host, act.get("job", {}), act["attempts"], act["expect"])

    def play_job(self, host: FakeHost, given: dict[str, Any], attempts: Any, expect: dict[str, Any]) -> None:
        options = NewJobOptions(
            group=given.get("group"), labels=given.get("labels", {}), content_type=given.get("content_type")
        )
        if "deadline_ms" in given:
            options["deadline"] = given["deadline_ms"] / 1000
        id = host.enqueue("hog.play", {"attempts": attempts}, **options)
        drained = host.drain([play])
        job = next(job for job in host.jobs if job.id == id)
        run = drained[-1].run
        self.assertEqual((job.state, job.attempts), (expect["state"], expect["attempts"]), run.failure)
        if "message" in expect:
            self.assertIn(expect["message"], str(run.failure))
        if "answers" in expect:
            self.assertEqual([answers_of(attempt.run) for attempt in drained], expect["answers"])
        if "progress" in expect:
            self.assertEqual(vars(run.progress[-1]), expect["progress"])
        for key, wanted in expect.get("stored", {}).items():
            data = host._stored.data(key, host._now_ms)
            self.assertEqual("absent" if data is None else {"value": json.loads(data)}, wanted, key)
        for path, text in expect.get("files", {}).items():
            self.assertEqual(host.path(path).read_text(encoding="utf-8"), text)
        if "jobs" in expect:
            self.assertEqual([described(job) for job in host.jobs if job.kind != "hog.play"], expect["jobs"])


if __name__ == "__main__":
    unittest.main()
