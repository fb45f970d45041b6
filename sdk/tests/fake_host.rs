//! The promises of the real host that the fake one keeps, as rules.

use std::time::{Duration, SystemTime};

use sandhog_sdk::{
    Bytes, Context, Debounce, EnqueueError, Failure, FakeHost, FakeLimits, HttpError, HttpReply, JobState,
    NewJob, OrFail, OrFailIo, Progress, Request, Result, SecretError, StateError, StopReason, Swapped,
    Unique, assert_enqueued, assert_not_enqueued, handler, handlers, info, permanent, rate_limited,
    retry_after, transient, unavailable,
};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn a_run_that_fails_writes_nothing_but_its_log_and_progress() {
    let mut host = FakeHost::new().state("count", &1);
    let run = host.run(|ctx| {
        info!(ctx, "trying");
        ctx.progress(Progress::of(1, 2).message("half way"));
        ctx.state().increment("count", 1)?;
        ctx.state().set("new", "value")?;
        ctx.enqueue(NewJob::new("mail.send", "hi"))?;
        Err::<(), _>(permanent("no"))
    });
    assert_eq!((run.logs.len(), run.progress.len(), run.enqueued.len()), (1, 1, 0));
    assert_eq!(host.stored("count"), Some(1));
    assert_eq!(host.stored::<String>("new"), None);
    assert!(host.jobs().is_empty());
}

#[test]
fn reads_see_what_the_run_has_written() {
    let mut host = FakeHost::new().state("kept", &1).state("gone", &1);
    let run = host.run(|ctx| {
        let state = ctx.state();
        state.increment("kept", 4)?;
        state.delete("gone")?;
        state.set("raw", &Bytes(b"\xff".to_vec()))?;
        Ok((state.get::<i64>("kept")?, state.get::<i64>("gone")?, state.get::<Bytes>("raw")?))
    });
    assert_eq!(run.result, Ok((Some(5), None, Some(Bytes(b"\xff".to_vec())))));
    assert_eq!((host.stored("kept"), host.stored::<i64>("gone")), (Some(5), None));
}

#[test]
fn a_compare_and_set_writes_only_from_the_expected_value() {
    let mut host = FakeHost::new();
    let run = host.run(|ctx| {
        let state = ctx.state();
        Ok([
            state.compare_and_set("owner", None, "ann")?,
            state.compare_and_set("owner", None, "bob")?,
            state.compare_and_set("owner", Some("ann"), "bob")?,
        ])
    });
    assert_eq!(run.result, Ok([Swapped::Yes, Swapped::No, Swapped::Yes]));
    assert_eq!(host.stored("owner"), Some("bob".to_owned()));
}

#[test]
fn a_value_with_a_time_to_live_goes_away_and_an_increment_keeps_that_time() {
    let mut host = FakeHost::new();
    let run = host.run(|ctx| {
        ctx.state().set_for("brief", &1, MINUTE)?;
        ctx.state().increment("brief", 1)?;
        Ok(ctx.state().compare_and_set_for("swapped", None, &1, 2 * MINUTE)?)
    });
    assert_eq!(run.result, Ok(Swapped::Yes));
    host.advance(MINUTE - Duration::from_millis(1));
    assert_eq!(host.stored("brief"), Some(2));
    host.advance(Duration::from_millis(1));
    assert_eq!((host.stored::<i64>("brief"), host.stored("swapped")), (None, Some(1)));
}

#[test]
fn what_the_state_refuses_says_why() {
    let run = FakeHost::new().state("text", "x").run(|ctx| {
        let state = ctx.state();
        let key = |key: &str| key.to_owned();
        state.set("word", "y")?;
        assert_eq!(state.increment("word", 1), Err(StateError::NotANumber { key: key("word") }));
        state.set("most", &i64::MAX)?;
        assert_eq!(state.increment("most", 1), Err(StateError::NotANumber { key: key("most") }));
        assert!(matches!(state.get::<u8>("text"), Err(StateError::InvalidValue { .. })));
        for invalid in ["", "a\nb", &"k".repeat(257)] {
            assert!(matches!(state.set(invalid, &1), Err(StateError::InvalidKey(_))), "{invalid}");
        }
        Ok(())
    });
    assert_eq!(run.result, Ok(()));
    let run = FakeHost::new().state_unavailable("no answer").run(|ctx| Ok(ctx.state().get::<u8>("x")?));
    let failure = run.result.expect_err("the store is gone");
    assert_eq!((failure.message(), failure.is_permanent()), ("state: no answer", false));
}

#[test]
fn an_increment_meets_what_is_stored_only_when_it_is_written() {
    let mut host = FakeHost::new().state("text", "x");
    let run = host.run(|ctx| {
        ctx.state().increment("text", 1)?;
        ctx.state().set("beside", &1)?;
        let found = ctx.state().get::<i64>("text");
        assert_eq!(found, Err(StateError::NotANumber { key: "text".into() }), "whoever looks is told");
        Ok(())
    });
    let failure = run.result.expect_err("it can't be written");
    assert!(!failure.is_permanent() && failure.message().contains("`text`"), "{failure}");
    assert_eq!(host.stored::<i64>("beside"), None, "all of it is written, or nothing");
}

#[test]
fn a_stored_null_is_not_the_same_as_nothing() {
    let mut host = FakeHost::new().state("owner", &None::<&str>);
    let run = host.run(|ctx| {
        let state = ctx.state();
        Ok([
            state.compare_and_set("owner", None, &Some("ann"))?,
            state.compare_and_set("owner", Some(&None), &Some("ann"))?,
        ])
    });
    assert_eq!(run.result, Ok([Swapped::No, Swapped::Yes]));
}

#[test]
fn a_job_has_what_it_was_given_and_its_id_is_final() {
    let mut host = FakeHost::new();
    let job = || NewJob::new("mail.send", &("ann", 3)).queue("mail").delay(MINUTE).priority(200);
    let run = host.run(|ctx| Ok(ctx.enqueue(job())?));
    let made = &run.enqueued[0];
    assert_eq!(Ok(&made.id), run.result.as_ref());
    assert_eq!((made.kind.as_str(), made.queue.as_deref()), ("mail.send", Some("mail")));
    assert_eq!((made.delay, made.priority), (MINUTE, 200));
    assert_eq!(made.input(), Ok(("ann".to_owned(), 3)));
}

#[test]
fn while_a_unique_key_is_held_no_second_job_is_created() {
    let mut host = FakeHost::new();
    let job = || NewJob::new("mail.send", "hi").unique_key("welcome ann");
    for created in [1, 0] {
        let run = host.run(|ctx| Ok(ctx.enqueue(job())?));
        assert_eq!((run.result.is_ok(), run.enqueued.len()), (true, created));
    }
    assert_eq!(host.jobs().len(), 1);
    let other = || NewJob::new("sms.send", "hi").unique_key("welcome ann");
    assert_eq!(host.run(|ctx| Ok(ctx.enqueue(other())?)).enqueued.len(), 1, "a key is one of its kind");
}

#[handler(kind = "mail.send")]
fn send(input: String) -> Result<String> {
    match input.as_str() {
        "never" => Err(permanent("no such address")),
        _ => Ok(input),
    }
}

#[test]
fn a_unique_key_is_free_as_soon_as_its_job_is_final() {
    for (payload, state) in
        [("hi", JobState::Succeeded), ("never", JobState::Dead), ("hi", JobState::Cancelled)]
    {
        let mut host = FakeHost::new();
        let job = || NewJob::new("mail.send", payload).unique_key("k");
        let first = host.enqueue(job()).expect("it is enqueued");
        assert_eq!(host.enqueue(job()).as_ref(), Ok(&first), "it is held");
        match state {
            JobState::Cancelled => host.cancel(&first),
            _ => drop(host.drain(&handlers![send])),
        }
        assert_eq!(host.jobs()[0].state, state);
        assert_ne!(host.enqueue(job()), Ok(first), "{state:?}: it is free");
    }
}

#[test]
fn a_job_may_enqueue_its_successor_under_its_own_unique_key() {
    #[handler(kind = "clean.up")]
    fn clean_up(ctx: &Context) -> Result<()> {
        ctx.enqueue(NewJob::new("clean.up", &()).unique_key("one").delay(MINUTE))?;
        Ok(())
    }
    let mut host = FakeHost::new();
    host.enqueue(NewJob::new("clean.up", &()).unique_key("one")).expect("it is enqueued");
    let drained = host.drain_for(2 * MINUTE, &handlers![clean_up]);
    let times: Vec<_> = drained.attempts.iter().map(|attempt| attempt.at).collect();
    assert_eq!(times, [Duration::ZERO, MINUTE, 2 * MINUTE]);
}

#[test]
fn each_run_is_one_of_a_job_of_its_own() {
    let mut host = FakeHost::new();
    let id = |host: &mut FakeHost, fails: bool| {
        let run = host.run(|ctx| {
            assert_eq!(ctx.job_id().as_str(), ctx.idempotency_key());
            info!(ctx, "ran", id = ctx.job_id());
            ctx.enqueue(NewJob::new("mail.send", "hi"))?;
            if fails { Err(permanent("no")) } else { Ok(()) }
        });
        run.logs[0].field("id").expect("it is logged").to_owned()
    };
    let ids = [id(&mut host, false), id(&mut host, true), id(&mut host, false)];
    let jobs: Vec<_> = host.jobs().iter().map(|job| job.id.to_string()).collect();
    let all: std::collections::BTreeSet<_> = ids.iter().chain(&jobs).collect();
    assert_eq!(all.len(), 5, "no id is given twice: {ids:?}, {jobs:?}");
    let mut host = FakeHost::new().job_id("01J");
    for _ in 0..2 {
        assert_eq!(host.run(|ctx| Ok(ctx.job_id().to_string())).result, Ok("01J".to_owned()));
    }
}

#[test]
fn what_waits_is_run_with_retries_as_time_goes_on() {
    #[handler(kind = "order.place")]
    fn place(ctx: &Context, fails: u32) -> Result<u32> {
        ctx.state().increment("tried", 1)?;
        if ctx.attempt() <= fails {
            return Err(transient("not yet"));
        }
        ctx.enqueue(NewJob::new("mail.send", "placed").delay(MINUTE).queue("mails"))?;
        Ok(ctx.attempt())
    }
    let mut host = FakeHost::new();
    host.enqueue(NewJob::new("order.place", &2)).expect("it is enqueued");
    let drained = host.drain(&handlers![place, send]);
    let attempts: Vec<_> = drained
        .attempts
        .iter()
        .map(|attempt| (attempt.job.kind.as_str(), attempt.job.attempts, attempt.at.as_secs()))
        .collect();
    let expected =
        [("order.place", 1, 0), ("order.place", 2, 2), ("order.place", 3, 6), ("mail.send", 1, 66)];
    assert_eq!(attempts, expected);
    assert_eq!(drained.of("order.place").last().map(|last| last.run.result.clone()), Some(Ok(b"3".to_vec())));
    assert_eq!(host.stored("tried"), Some(1), "what failed has written nothing");
    assert!(host.drain(&handlers![place, send]).attempts.is_empty(), "nothing is left");
}

#[test]
fn a_job_that_fails_too_often_or_for_good_is_dead() {
    #[handler(kind = "always.late")]
    fn late() -> Result<()> {
        Err(retry_after(MINUTE, "later"))
    }
    let mut host = FakeHost::new().max_attempts(3);
    host.enqueue(NewJob::new("always.late", &())).expect("it is enqueued");
    host.enqueue(NewJob::new("mail.send", "never")).expect("it is enqueued");
    host.enqueue(NewJob::new("nobody.handles", &()).queue("aside")).expect("it is enqueued");
    let drained = host.drain(&handlers![late, send]);
    let late: Vec<_> = drained.of("always.late").map(|attempt| attempt.at).collect();
    assert_eq!(late, [Duration::ZERO, MINUTE, 2 * MINUTE]);
    assert_eq!(drained.of("mail.send").count(), 1);
    let states: Vec<_> = host.jobs().iter().map(|job| (job.state, job.attempts)).collect();
    assert_eq!(states, [(JobState::Dead, 3), (JobState::Dead, 1), (JobState::Waiting, 0)]);
}

#[test]
fn what_is_due_runs_by_priority_and_then_by_age() {
    let mut host = FakeHost::new();
    for (text, priority, delay) in
        [("first", 100, 0), ("second", 100, 0), ("urgent", 200, 0), ("later", 255, 9)]
    {
        let job = NewJob::new("mail.send", text).priority(priority).delay(Duration::from_secs(delay));
        host.enqueue(job).expect("it is enqueued");
    }
    let drained = host.drain(&handlers![send]);
    let order: Vec<String> =
        drained.attempts.iter().map(|attempt| attempt.job.input().expect("a text")).collect();
    assert_eq!(order, ["urgent", "first", "second", "later"]);
}

#[test]
#[should_panic(expected = "do they enqueue each other without end?")]
fn jobs_without_end_are_found() {
    #[handler(kind = "endless")]
    fn endless(ctx: &Context) -> Result<()> {
        ctx.enqueue(NewJob::new("endless", &()))?;
        Ok(())
    }
    let mut host = FakeHost::new();
    host.enqueue(NewJob::new("endless", &())).expect("it is enqueued");
    host.drain(&handlers![endless]);
}

#[test]
fn an_assertion_on_what_was_enqueued_lists_it() {
    let mut host = FakeHost::new();
    let run = host.run(|ctx| {
        ctx.enqueue(NewJob::new("mail.send", &("ann", 3)).delay(MINUTE).unique_key("welcome ann"))?;
        ctx.enqueue(NewJob::new("sms.send", "hi").queue("slow").priority(7))?;
        Ok(())
    });
    let job = assert_enqueued!(run, "mail.send", |(to, _): (String, u8)| to == "ann");
    assert_eq!(job.delay, MINUTE);
    assert_enqueued!(host, "sms.send");
    assert_not_enqueued!(run, "mail.send", |(to, _): (String, u8)| to == "bob");
    assert_not_enqueued!(run, "push.send");

    let panicked = |assertion: &dyn Fn()| {
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(assertion)).expect_err("it fails");
        *panic.downcast::<String>().expect("a message")
    };
    let message = panicked(&|| {
        drop(assert_enqueued!(run, "mail.send", |(to, _): (String, u8)| to == "bob").id.clone())
    });
    for part in [
        "no job of kind `mail.send` was enqueued",
        "to == \"bob\"",
        "mail.send [\"ann\",3], after 60s, unique key \"welcome ann\"",
        "sms.send \"hi\", queue slow, priority 7",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    let message = panicked(&|| drop(assert_enqueued!(run, "mail.send", |_: u8| true).id.clone()));
    assert!(message.contains("is no input of that type: invalid type, expected u8"), "{message}");
    let message = panicked(&|| assert_not_enqueued!(run, "sms.send"));
    assert!(message.contains("sms.send \"hi\""), "{message}");
}

#[test]
fn limits_are_those_of_a_plugin_that_sets_none_unless_the_test_does() {
    let mut host = FakeHost::new();
    let payload = |length: usize| NewJob::new("mail.send", &Bytes(vec![b'x'; length]));
    let run = host.run(|ctx| {
        ctx.enqueue(payload(10 << 10))?;
        assert!(matches!(ctx.enqueue(payload((10 << 10) + 1)), Err(EnqueueError::Limit(_))));
        Ok(())
    });
    assert_eq!((run.result, run.enqueued.len()), (Ok(()), 1), "whoever copes succeeds");

    let limits =
        FakeLimits { enqueues: 1, state_writes: 1, effects: 100, output: 10, ..FakeLimits::default() };
    let mut host = FakeHost::new().limits(limits);
    let run = host.run(|ctx| {
        ctx.enqueue(payload(1))?;
        ctx.enqueue(payload(1))?;
        Ok(())
    });
    let failure = run.result.expect_err("one job too many");
    assert!(failure.is_permanent() && failure.message().contains("limits.enqueues"), "{failure}");
    let run = host.run(|ctx| {
        ctx.state().set("a", &1)?;
        ctx.state().set("a", &2)?;
        assert!(matches!(ctx.state().set("b", &1), Err(StateError::Limit(_))));
        Ok(())
    });
    assert_eq!((run.result, host.stored("a")), (Ok(()), Some(2)));
    let run = host.run(|ctx| {
        let _ = ctx.state().set("a", &"x".repeat(100));
        Ok(())
    });
    let failure = run.result.expect_err("too much of it");
    assert!(failure.is_permanent() && failure.message().contains("limits.effects"), "{failure}");
    let run = host.run_payload::<send>(r#""a text of some length""#);
    assert!(run.result.is_err_and(|failure| failure.message().contains("limits.output")));
}

#[test]
fn a_name_that_the_contract_has_not_is_refused() {
    let run = FakeHost::new().run(|ctx| {
        let long = "k".repeat(257);
        for job in [
            NewJob::new("Mail", "hi"),
            NewJob::new("mail.send", "hi").queue(""),
            NewJob::new("mail.send", "hi").unique_key(&long),
            NewJob::new("mail.send", "hi").unique_key("a\nb"),
        ] {
            assert!(matches!(ctx.enqueue(job), Err(EnqueueError::Invalid(_))));
        }
        Ok(())
    });
    assert_eq!((run.result, run.enqueued.len()), (Ok(()), 0));
}

#[test]
fn files_are_found_where_they_are_granted_and_nowhere_else() {
    let copy = |ctx: &Context, from: &str, to: &str| -> Result<()> {
        std::fs::copy(ctx.path(from), ctx.path(to)).or_fail_io(format_args!("copy {from}"))?;
        Ok(())
    };
    let mut host = FakeHost::new().file("/in/deep/a.csv", "1,2").dir("/out");
    assert_eq!(host.run(|ctx| copy(ctx, "/in/deep/a.csv", "/out/b.csv")).result, Ok(()));
    let written = |host: &FakeHost| std::fs::read(host.path("/out/b.csv")).expect("it is there");
    assert_eq!(written(&host), b"1,2");
    for (from, to) in [
        ("/out/b.csv", "/elsewhere/b.csv"),
        ("/etc/passwd", "/out/passwd"),
        ("/out/../../../../etc/passwd", "/out/passwd"),
    ] {
        let run = host.run(|ctx| copy(ctx, from, to));
        assert!(run.result.is_err_and(|failure| failure.is_permanent()), "{from} {to}");
    }
    let run = host.run(|ctx| {
        std::fs::write(ctx.path("/out/b.csv"), "3")?;
        Err::<(), _>(permanent("no"))
    });
    assert_eq!(
        (run.result, written(&host)),
        (Err(permanent("no")), b"3".to_vec()),
        "a file is written at once"
    );
    assert!(FakeHost::new().run(|ctx| copy(ctx, "/etc/passwd", "/x")).result.is_err());
}

#[test]
fn a_variable_is_had_if_it_is_granted() {
    let mut host = FakeHost::new().env("MODE", "dry");
    let run = host.run(|ctx| Ok((ctx.env("MODE"), ctx.env("PATH"))));
    assert_eq!(run.result, Ok((Some("dry".to_owned()), None)));
}

#[test]
fn a_kind_that_nobody_handles_needs_a_queue() {
    let run = FakeHost::new().unknown_kind("mail.sned").run(|ctx| {
        let refused = ctx.enqueue(NewJob::new("mail.sned", "hi"));
        assert!(matches!(refused, Err(EnqueueError::UnknownKind(_))));
        Ok(ctx.enqueue(NewJob::new("mail.sned", "hi").queue("mail"))?)
    });
    assert_eq!(run.enqueued.len(), 1);
}

#[test]
fn a_payload_without_a_json_form_is_refused_when_enqueued() {
    let keyed_by_list = std::collections::BTreeMap::from([([1, 2], 3)]);
    let run = FakeHost::new().run(|ctx| {
        let refused = ctx.enqueue(NewJob::new("mail.send", &keyed_by_list));
        assert!(matches!(refused, Err(EnqueueError::Payload { kind, .. }) if kind == "mail.send"));
        Ok(())
    });
    assert_eq!((run.result, run.enqueued.len()), (Ok(()), 0));
}

#[test]
fn only_granted_secrets_are_had_and_they_do_not_show() {
    let run = FakeHost::new().secret("TOKEN", "hunter2").run(|ctx| {
        assert!(matches!(ctx.secret("OTHER"), Err(SecretError::NotGranted(text)) if text.contains("OTHER")));
        Ok(ctx.secret("TOKEN")?)
    });
    let secret = run.result.expect("granted");
    assert_eq!(secret.expose(), "hunter2");
    assert!(!format!("{secret:?}").contains("hunter2"));
}

#[test]
fn a_request_finds_what_is_in_the_table_and_is_refused_what_is_not() {
    let mut host = FakeHost::new()
        .http("GET https://api.example/a", HttpReply::json(&[1, 2]).header("X-One", "1"))
        .http("GET https://api.example/*", HttpReply::status(503))
        .http("GET https://api.example/*", HttpReply::status(200).body("then"))
        .http("* https://down.example/*", HttpReply::error("connection refused"))
        .http("POST https://api.example/a", HttpReply::status(201));
    let run = host.run(|ctx| {
        let got = ctx.http(&Request::get("https://api.example/a").header("authorization", "hunter2"))?;
        assert_eq!((got.json::<Vec<u8>>()?, got.header("x-one")), (vec![1, 2], Some("1")));
        let replies: Vec<_> = (0..3)
            .map(|_| {
                ctx.http(&Request::get("https://api.example/b?q=1")).map(|reply| (reply.status, reply.text()))
            })
            .collect::<Result<_, _>>()?;
        assert_eq!(replies, [(503, String::new()), (200, "then".to_owned()), (200, "then".to_owned())]);
        let posted = Request::post("https://api.example/a").json(&"hi")?;
        assert_eq!(ctx.http(&posted)?.status, 201);
        let failed = ctx.http(&Request::get("https://down.example/"));
        assert_eq!(failed, Err(HttpError::Failed("connection refused".to_owned())));
        let refused = ctx.http(&Request::get("https://other.example/"));
        assert!(matches!(refused, Err(HttpError::NotGranted(why)) if why.contains("https://other.example/")));
        assert!(matches!(ctx.http(&Request::get("nowhere")), Err(HttpError::Invalid(_))));
        Ok(())
    });
    assert_eq!(run.result, Ok(()));
    assert_eq!(run.requests.len(), 8);
    assert_eq!((run.requests[4].method.as_str(), run.requests[4].body.as_slice()), ("POST", &b"\"hi\""[..]));
}

#[test]
fn a_handler_finds_the_attempt_it_was_told() {
    let host =
        FakeHost::new().tenant("bolt").queue("slow").kind("a.b").attempt(3).max_attempts(4).job_id("01J");
    let mut host = host.remaining(MINUTE).stop_requested(StopReason::Draining);
    let before = host.run(|ctx| {
        assert_eq!((ctx.tenant(), ctx.queue(), ctx.kind()), ("bolt", "slow", "a.b"));
        assert_eq!((ctx.attempt(), ctx.max_attempts(), ctx.remaining()), (3, 4, MINUTE));
        assert_eq!(ctx.stop_requested(), Some(StopReason::Draining));
        assert!(ctx.deadline() > SystemTime::UNIX_EPOCH);
        Ok((ctx.deadline(), ctx.idempotency_key().to_owned()))
    });
    host.advance(MINUTE);
    let after = host.run(|ctx| Ok((ctx.deadline(), ctx.idempotency_key().to_owned())));
    let (before, after) = (before.result.expect("told"), after.result.expect("told"));
    assert_eq!(after.0, before.0 + MINUTE, "another attempt has a deadline of its own");
    assert_eq!(after.1, before.1, "and yet the same idempotency key");
}

#[test]
fn time_that_goes_by_in_a_run_is_what_is_left_of_it_less() {
    let mut host = FakeHost::new().remaining(MINUTE);
    let clock = host.clock();
    let run = host.run(|ctx| {
        let begun = clock.now();
        ctx.state().set_for("brief", &1, MINUTE)?;
        clock.advance(MINUTE / 4);
        assert_eq!(ctx.deadline(), begun + MINUTE);
        let deadline = ctx.state().get::<u8>("brief")?.or_permanent("what the run wrote")?;
        Ok((ctx.remaining(), deadline))
    });
    assert_eq!(run.result, Ok((MINUTE * 3 / 4, 1)));
    let run = host.run(|ctx| {
        ctx.state().set("late", &1)?;
        clock.advance(2 * MINUTE);
        assert_eq!(ctx.remaining(), Duration::ZERO);
        Ok(())
    });
    let failure = run.result.expect_err("it is past its deadline");
    assert!(!failure.is_permanent() && failure.message().contains("timed out"), "{failure}");
    assert_eq!(host.stored::<i64>("late"), None);
}

#[handler(kind = "mail.digest")]
fn digest(number: u32) -> Result<u32> {
    Ok(number)
}

#[test]
fn one_job_stands_for_many_events_until_none_has_come_for_a_while_or_its_longest_wait_is_over() {
    let mut host = FakeHost::new();
    let event =
        |number: u32| NewJob::new("mail.digest", &number).debounce(Debounce::new("k", MINUTE, 2 * MINUTE));
    let first = host.enqueue(event(1)).expect("it is enqueued");
    for number in [2, 3] {
        let drained = host.drain_for(MINUTE * 3 / 4, &handlers![digest]);
        assert!(drained.attempts.is_empty(), "{number}: another one came in time");
        assert_eq!(host.enqueue(event(number)), Ok(first.clone()));
    }
    let drained = host.drain(&handlers![digest]);
    assert_eq!(drained.attempts.len(), 1);
    assert_eq!((drained.attempts[0].at, &drained.attempts[0].run.result), (MINUTE / 2, &Ok(b"3".to_vec())));
    assert_ne!(host.enqueue(event(5)), Ok(first), "it has started: the next event makes another");
}

#[test]
fn a_key_for_a_time_is_held_whatever_becomes_of_its_job() {
    let mut host = FakeHost::new();
    let job = || NewJob::new("mail.digest", &1).unique(Unique::for_time("k", MINUTE));
    let first = host.enqueue(job()).expect("it is enqueued");
    host.drain(&handlers![digest]);
    assert_eq!(host.enqueue(job()), Ok(first.clone()));
    host.advance(MINUTE);
    assert_ne!(host.enqueue(job()), Ok(first));
}

#[test]
fn what_has_not_started_in_time_is_cancelled_and_what_is_past_its_deadline_is_dead() {
    let mut host = FakeHost::new();
    let job = || NewJob::new("mail.digest", &1).delay(MINUTE);
    host.enqueue(job().start_within(MINUTE)).expect("it is enqueued");
    host.enqueue(job().deadline(MINUTE)).expect("it is enqueued");
    host.enqueue(job().start_within(2 * MINUTE).deadline(3 * MINUTE)).expect("it is enqueued");
    host.advance(3 * MINUTE);
    host.drain(&handlers![digest]);
    let states: Vec<_> = host.jobs().iter().map(|job| job.state).collect();
    assert_eq!(states, [JobState::Cancelled, JobState::Dead, JobState::Succeeded]);
}

#[handler(kind = "card.charge")]
fn charge(ctx: &Context, seconds: u64) -> Result<u64> {
    ctx.state().increment("tries", 1)?;
    if ctx.enqueued_at() + MINUTE > ctx.deadline() {
        return Err(rate_limited(Duration::from_secs(seconds)));
    }
    Ok(seconds)
}

#[test]
fn a_job_that_is_put_off_comes_again_with_the_same_attempt_and_has_done_nothing() {
    let mut host = FakeHost::new().max_attempts(1).remaining(MINUTE / 2);
    host.enqueue(NewJob::new("card.charge", &20)).expect("it is enqueued");
    let drained = host.drain(&handlers![charge]);
    let times: Vec<_> = drained.attempts.iter().map(|attempt| attempt.at.as_secs()).collect();
    assert_eq!(times, [0, 20, 40]);
    assert_eq!(drained.attempts[0].run.result, Err(rate_limited(Duration::from_secs(20))));
    assert_eq!((host.jobs()[0].state, host.jobs()[0].attempts), (JobState::Succeeded, 1));
    assert_eq!(host.stored("tries"), Some(1));
    let mut host = FakeHost::new().remaining(MINUTE / 2);
    host.enqueue(NewJob::new("card.charge", &0).deadline(MINUTE / 20)).expect("it is enqueued");
    let drained = host.drain(&handlers![charge]);
    let times: Vec<_> = drained.attempts.iter().map(|attempt| attempt.at.as_secs()).collect();
    assert_eq!(times, [0, 1, 2], "a second at least, and not past its deadline");
    assert_eq!(host.jobs()[0].state, JobState::Dead);
}

#[handler(kind = "card.refund")]
fn refund(ctx: &Context, seconds: Option<u64>) -> Result<()> {
    if ctx.enqueued_at() + MINUTE > ctx.deadline() {
        let down = unavailable("stripe");
        return Err(match seconds {
            Some(seconds) => down.after(Duration::from_secs(seconds)),
            None => down,
        });
    }
    Ok(())
}

#[test]
fn a_job_whose_service_is_unavailable_comes_again_with_the_same_attempt() {
    for (wait, times) in [(None, [0, 10, 20, 30]), (Some(12), [0, 12, 24, 36])] {
        let mut host = FakeHost::new().max_attempts(1).remaining(MINUTE / 2);
        host.enqueue(NewJob::new("card.refund", &wait)).expect("it is enqueued");
        let drained = host.drain(&handlers![refund]);
        let came: Vec<_> = drained.attempts.iter().map(|attempt| attempt.at.as_secs()).collect();
        assert_eq!(came, times);
        assert_eq!((host.jobs()[0].state, host.jobs()[0].attempts), (JobState::Succeeded, 1));
    }
    let limited = rate_limited(MINUTE).by("stripe");
    assert!(matches!(limited, Failure::RateLimited { downstream: Some(name), .. } if name == "stripe"));
}

#[test]
fn a_handler_finds_what_its_job_was_given() {
    let mut host = FakeHost::new().group("ann").label("env", "prod").label("a", "").content_type("text/csv");
    let run = host.run(|ctx| {
        assert_eq!((ctx.group(), ctx.content_type()), (Some("ann"), Some("text/csv")));
        assert_eq!(ctx.labels().collect::<Vec<_>>(), [("a", ""), ("env", "prod")]);
        assert_eq!((ctx.label("env"), ctx.label("other")), (Some("prod"), None));
        assert_eq!(ctx.job_deadline(), None);
        Ok(())
    });
    assert_eq!(run.result, Ok(()));
    let given = NewJob::new("mail.digest", &1).group("bob").label("b", "2").label("a", "1").priority(7);
    let given = given.content_type("text/plain").start_within(MINUTE).deadline(2 * MINUTE);
    let run = host.run(|ctx| Ok(ctx.enqueue(given)?));
    let job = &run.enqueued[0];
    assert_eq!((job.group.as_deref(), job.content_type.as_deref()), (Some("bob"), Some("text/plain")));
    assert_eq!((job.start_within, job.deadline), (Some(MINUTE), Some(2 * MINUTE)));
    assert_eq!(job.labels, [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())]);
}

#[test]
fn a_label_that_is_there_twice_or_once_too_often_is_refused() {
    let run = FakeHost::new().run(|ctx| {
        let job = || NewJob::new("mail.send", &1);
        let twice = ctx.enqueue(job().label("a", "1").label("a", "2"));
        assert!(matches!(twice, Err(EnqueueError::Invalid(why)) if why.contains("already")));
        let many = (0..17).fold(job(), |job, n| job.label(format!("n{n}"), ""));
        assert!(matches!(ctx.enqueue(many), Err(EnqueueError::Invalid(why)) if why.contains("at most 16")));
        Ok(())
    });
    assert_eq!(run.result, Ok(()));
}
