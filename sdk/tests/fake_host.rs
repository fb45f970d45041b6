//! The promises of the real host that the fake one keeps, as rules.

use std::time::{Duration, SystemTime};

use sandhog_sdk::{
    Bytes, EnqueueError, FakeHost, NewJob, Progress, SecretError, StateError, StopReason, Swapped, info,
    permanent,
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
    let run = FakeHost::new().state("text", "x").state("most", &i64::MAX).run(|ctx| {
        let state = ctx.state();
        let key = |key: &str| key.to_owned();
        assert_eq!(state.increment("text", 1), Err(StateError::NotANumber { key: key("text") }));
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
fn a_handler_finds_the_attempt_it_was_told() {
    let host = FakeHost::new().tenant("bolt").queue("slow").kind("a.b").attempt(3).max_attempts(4);
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
