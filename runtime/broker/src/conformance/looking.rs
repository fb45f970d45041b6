//! People and programs look at what is there.

use std::collections::BTreeMap;
use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

use sandhog_core::group::{GroupRule, GroupTurns, OnDead, TurnHolder};
use sandhog_core::hold::{HoldScope, NewHold};
use sandhog_core::id::Kind;
use sandhog_core::job::{JobOptions, NewJob, Priority, State};
use sandhog_core::rate::{FullAt, Rate};
use sandhog_core::reason::Reason;
use sandhog_core::settle::Settlement;
use sandhog_core::waits::AHEAD_COUNTED_MAX;

use super::case::{Case, TTL};
use super::script::{
    bury, group, labels, lines, ms, plugin, queue, queue_named, renew, retry, revision, secs, succeed, unique,
};
use crate::{
    Counts, Filter, FleetLimit, JobAction, LaneAsk, LastTimes, LeaseAsk, Query, QueueCensus, RateLimit,
    RateOf, Renew,
};

/// Ready jobs are listed in the order in which they are handed out, over all queues; scheduled and leased ones by their time,
/// then by id.
pub async fn waiting_jobs_are_listed_in_the_order_in_which_they_go(case: Case) {
    let of = |name, priority, delay| NewJob {
        queue: queue_named(name),
        priority: Priority(priority),
        delay: ms(delay),
        ..case.new_job()
    };
    let ready = [of("b", 100, 0), of("a", 100, 0), of("default", 200, 0), of("a", 255, 0)];
    let scheduled = [of("b", 0, 20), of("a", 255, 30), of("a", 0, 10), of("a", 0, 20)];
    let [r1, r2, r3, r4] = ready.each_ref().map(|job| job.id);
    let [s1, s2, s3, s4] = scheduled.each_ref().map(|job| job.id);
    let mut batch = [ready, scheduled].concat();
    batch.swap(4, 7);
    case.enqueue_all(&batch).await;
    assert_eq!(case.list(State::Ready).await, [r4, r3, r1, r2]);
    assert_eq!(case.list(State::Scheduled).await, [s3, s1, s4, s2]);
    let asks = [(queue_named("a"), 2), (queue_named("b"), 1)];
    let leases = case.ask(&asks).await.leases;
    assert_eq!(case.list(State::Leased).await, [r1, r2, r4]);
    case.pass(ms(1));
    case.renew(renew(leases[1].token)).await;
    assert_eq!(case.list(State::Leased).await, [r1, r4, r2]);
}

/// Final jobs are listed latest first; of those that ended at the same time, the one with the greatest id first.
pub async fn final_jobs_are_listed_latest_first(case: Case) {
    for (settlement, state) in
        [(succeed(), State::Succeeded), (bury(), State::Dead), (Settlement::Cancel, State::Cancelled)]
    {
        let ids = case.enqueue_n(4).await;
        let tokens: Vec<_> = case.lease(4).await.iter().map(|lease| lease.token).collect();
        for nth in [3, 0, 2] {
            case.applied(tokens[nth], settlement.clone()).await;
            if nth == 3 {
                case.pass(secs(1));
            }
        }
        case.pass(secs(1));
        case.applied(tokens[1], settlement).await;
        assert_eq!(case.list(state).await, [ids[1], ids[2], ids[0], ids[3]]);
    }
}

/// Pages follow each other without overlap and hold whole records, also while jobs come and go.
pub async fn a_page_holds_what_was_asked_for(case: Case) {
    let ids = case.enqueue_n(5).await;
    let page = async |after, limit| case.page(Query { after, ..Query::of(State::Ready, limit) }).await;
    let first = page(None, 2).await;
    let second = page(first.next, 2).await;
    // What goes before the place of a cursor, and what comes behind it, moves nothing that is between.
    case.act(JobAction::Cancel, ids[0]).await;
    let late = case.enqueue(case.new_job()).await;
    let third = page(second.next, 2).await;
    assert_eq!(third.next, None);
    let found: Vec<_> = [first.jobs, second.jobs, third.jobs].concat();
    assert_eq!(found.iter().map(|record| record.id).collect::<Vec<_>>(), [&ids[..], &[late]].concat());
    assert_eq!(found[3], case.record(ids[3]).await);
    assert_eq!(case.list(State::Dead).await, []);
}

/// A job with the longest names is listed in full, with its payload and without.
pub async fn the_longest_names_are_listed_with_and_without_payloads(case: Case) {
    let job = NewJob {
        kind: Kind::parse(&"k".repeat(127)).expect("a valid kind"),
        queue: queue_named(&"q".repeat(63)),
        unique_key: unique(&"u".repeat(256)),
        pinned: Some(revision(3)),
        options: JobOptions { group: Some(group(&"ü".repeat(64))), ..JobOptions::default() },
        payload: b"payload".to_vec(),
        ..case.new_job()
    };
    let record = case.record(case.enqueue(job).await).await;
    let listed = async |payloads| case.page(Query { payloads, ..Query::of(State::Ready, 9) }).await.jobs;
    assert_eq!(listed(true).await, std::slice::from_ref(&record));
    assert_eq!(listed(false).await, [record.without_payloads()]);
}

/// The pages of each state make up the whole list. The last one has no cursor.
pub async fn pages_of_every_state_fit_together(case: Case) {
    let delayed: Vec<NewJob> = (1..=5).map(|n| NewJob { delay: secs(n / 2), ..case.new_job() }).collect();
    case.enqueue_all(&delayed).await;
    case.enqueue_n(20).await;
    for (n, settlement) in (0..).zip([succeed(), bury(), Settlement::Cancel].iter().cycle().take(12)) {
        let token = case.lease_one().await;
        case.pass(ms(n % 2));
        case.applied(token, settlement.clone()).await;
    }
    case.lease(4).await;
    let rule = GroupRule::Strict(OnDead::Hold);
    case.broker.set_group_rules(&case.tenant, &[(queue(), rule.into())].into()).await.expect("it succeeds");
    let grouped = || NewJob {
        options: JobOptions { group: Some(group("acme")), ..JobOptions::default() },
        ..case.new_job()
    };
    case.enqueue_all(&[grouped(), grouped(), grouped(), grouped()]).await;
    for state in State::ALL {
        let whole = case.list(state).await;
        let (mut pages, mut after) = (Vec::new(), None);
        loop {
            let page = case.page(Query { after, ..Query::of(state, 2) }).await;
            pages.extend(page.jobs.iter().map(|record| record.id));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(pages, whole, "{state}");
        assert!(!whole.is_empty(), "{state}");
    }
}

/// A list can be filtered by queue, kind, reason and time of enqueueing.
pub async fn a_list_can_be_filtered(case: Case) {
    let of = |name| NewJob { queue: queue_named(name), ..case.new_job() };
    let first = case.enqueue(of("a")).await;
    case.pass(secs(5));
    let second = case.enqueue(of("b")).await;
    let other = NewJob { kind: Kind::parse("other.kind").expect("a valid kind"), ..of("b") };
    let third = case.enqueue(other.clone()).await;
    let listed = async |filter: Filter| {
        let page = case.page(Query { filter, ..Query::of(State::Ready, 100) }).await;
        page.jobs.iter().map(|record| record.id).collect::<Vec<_>>()
    };
    let any = Filter::default();
    assert_eq!(listed(any.clone()).await, [first, second, third]);
    assert_eq!(listed(Filter { queue: Some(queue_named("b")), ..any.clone() }).await, [second, third]);
    assert_eq!(listed(Filter { kind: Some(other.kind), ..any.clone() }).await, [third]);
    assert_eq!(listed(Filter { enqueued_from: Some(case.now()), ..any.clone() }).await, [second, third]);
    assert_eq!(listed(Filter { enqueued_until: Some(case.now()), ..any.clone() }).await, [first]);
    assert_eq!(listed(Filter { reason: Some(Reason::Failed), ..any.clone() }).await, []);
    let token = case.ask(&[(queue_named("a"), 1)]).await.leases[0].token;
    case.applied(token, retry(Duration::ZERO)).await;
    let reason = case.record(token.job).await.reason;
    assert_eq!(listed(Filter { reason, ..any }).await, [token.job]);
}

/// A list can be filtered by group and by labels, each of which has to be the same as a whole.
pub async fn a_list_can_be_filtered_by_group_and_labels(case: Case) {
    let of = |key: Option<&str>, texts: &[&str]| {
        let options = JobOptions { group: key.map(group), labels: labels(texts), ..JobOptions::default() };
        NewJob { options, ..case.new_job() }
    };
    let jobs = [
        of(None, &[]),
        of(Some("acme"), &["env=prod", "customer=ü"]),
        of(Some("acme"), &["env=test"]),
        of(Some("acm"), &["env=prod"]),
        NewJob { unique_key: unique(&"k".repeat(200)), ..of(None, &["env=prod", "note=x"]) },
    ];
    let ids = jobs.each_ref().map(|job| job.id);
    case.enqueue_all(&jobs).await;
    let listed = async |filter: Filter| {
        let page = case.page(Query { filter, ..Query::of(State::Ready, 100) }).await;
        page.jobs.iter().map(|record| record.id).collect::<Vec<_>>()
    };
    let with = |texts: &[&str]| Filter { labels: labels(texts), ..Filter::default() };
    assert_eq!(listed(with(&["env=prod"])).await, [ids[1], ids[3], ids[4]]);
    assert_eq!(listed(with(&["env=prod", "customer=ü"])).await, [ids[1]]);
    assert_eq!(listed(with(&["env=pro"])).await, []);
    assert_eq!(listed(with(&["prod=env"])).await, []);
    let acme = Filter { group: Some(group("acme")), ..Filter::default() };
    assert_eq!(listed(acme.clone()).await, ids[1..3]);
    assert_eq!(listed(Filter { labels: labels(&["env=test"]), ..acme }).await, [ids[2]]);
}

/// A list can be filtered by a text within the message, which is taken literally and case-sensitively.
pub async fn a_list_can_be_filtered_by_the_text_of_a_message(case: Case) {
    let ids = case.enqueue_n(3).await;
    for (lease, message) in case.lease(9).await.iter().zip(["upstream: 503 [busy]", "no such user (42%)", ""])
    {
        let message = message.to_owned();
        case.applied(lease.token, Settlement::Bury { reason: Reason::Failed, message }).await;
    }
    let listed = async |text: &str| {
        let filter = Filter { message: text.to_owned(), ..Filter::default() };
        let query = Query { filter, payloads: false, ..Query::of(State::Dead, 100) };
        case.page(query).await.jobs.iter().map(|record| record.id).collect::<Vec<_>>()
    };
    assert_eq!(listed("503").await, [ids[0]]);
    assert_eq!(listed("[busy]").await, [ids[0]]);
    assert_eq!(listed("(42%)").await, [ids[1]]);
    assert_eq!(listed("u").await, [ids[1], ids[0]], "the latest first");
    assert_eq!(listed("U").await, []);
    assert_eq!(listed(".*").await, []);
    assert_eq!(listed("").await.len(), 3);
}

/// A list can be filtered by when jobs last ran and ended, so that a command on many jobs doesn't find those that it has
/// changed itself.
pub async fn a_list_can_be_filtered_by_when_jobs_last_ran_and_ended(case: Case) {
    let [never, early, late] = case.enqueue_n(3).await[..] else { panic!("there are three") };
    case.act(JobAction::Cancel, never).await;
    case.applied(case.lease_one().await, bury()).await;
    case.pass(secs(5));
    let since = case.now();
    case.applied(case.lease_one().await, bury()).await;
    let listed = async |state, last| {
        let filter = Filter { last, ..Filter::default() };
        let page = case.page(Query { filter, ..Query::of(state, 100) }).await;
        assert_eq!(page.now, case.now());
        page.jobs.iter().map(|record| record.id).collect::<Vec<_>>()
    };
    let leased = LastTimes { leased_until: Some(since), finished_until: None };
    let finished = LastTimes { leased_until: None, finished_until: Some(since) };
    for last in [leased, finished] {
        assert_eq!(listed(State::Dead, last).await, [early]);
        assert_eq!(listed(State::Cancelled, last).await, [never]);
    }
    let after =
        LastTimes { leased_until: Some(since.after(ms(1))), finished_until: Some(since.after(ms(1))) };
    assert_eq!(listed(State::Dead, after).await, [late, early]);
}

/// A list leaves out payloads unless they are asked for.
pub async fn a_list_comes_without_payloads_unless_asked(case: Case) {
    let id = case.enqueue(NewJob { payload: vec![7; 1000], ..case.new_job() }).await;
    let page = case.page(Query { payloads: false, ..Query::of(State::Ready, 10) }).await;
    assert_eq!(page.jobs, [case.record(id).await.without_payloads()]);
}

/// A page with payloads is bounded in bytes, so that it holds up no other call.
pub async fn a_page_is_bounded_in_bytes(case: Case) {
    let large = |_| NewJob { payload: vec![7; Query::BYTES_MAX / 4], ..case.new_job() };
    let jobs: Vec<NewJob> = (0..6).map(large).collect();
    case.enqueue_all(&jobs).await;
    let first = case.page(Query::of(State::Ready, 100)).await;
    assert!((1..=4).contains(&first.jobs.len()), "{}", first.jobs.len());
    assert!(first.next.is_some());
    assert_eq!(case.page(Query { payloads: false, ..Query::of(State::Ready, 100) }).await.jobs.len(), 6);
}

/// A page has at most [`Query::LIMIT_MAX`] jobs. It has at least one if there are any, even for a limit of 0.
pub async fn a_page_is_never_larger_than_the_limit(case: Case) {
    case.enqueue_n(Query::LIMIT_MAX as usize + 1).await;
    for (limit, found) in [(0, 1), (1, 1), (u32::MAX, Query::LIMIT_MAX as usize)] {
        assert_eq!(case.page(Query::of(State::Ready, limit)).await.jobs.len(), found);
    }
}

/// The counts of jobs by state are exact after each step.
pub async fn counts_are_exact(case: Case) {
    assert_eq!(case.counts().await, Counts::default());
    case.enqueue_n(4).await;
    let late = case.enqueue(NewJob { delay: secs(5), ..case.new_job() }).await;
    assert_eq!(case.counts().await, Counts::of(&[(State::Scheduled, 1), (State::Ready, 4)]));
    let tokens: Vec<_> = case.lease(3).await.iter().map(|lease| lease.token).collect();
    assert_eq!(
        case.counts().await,
        Counts::of(&[(State::Scheduled, 1), (State::Ready, 1), (State::Leased, 3)])
    );
    case.applied(tokens[0], succeed()).await;
    case.applied(tokens[1], bury()).await;
    case.applied(tokens[2], Settlement::Cancel).await;
    assert_eq!(
        case.counts().await,
        Counts::of(&[
            (State::Scheduled, 1),
            (State::Ready, 1),
            (State::Succeeded, 1),
            (State::Dead, 1),
            (State::Cancelled, 1)
        ])
    );
    case.broker.cancel(&case.tenant, late).await.expect("a cancellation succeeds");
    case.broker.redrive(&case.tenant, tokens[1].job).await.expect("a redrive succeeds");
    assert_eq!(
        case.counts().await,
        Counts::of(&[(State::Ready, 2), (State::Succeeded, 1), (State::Cancelled, 2)])
    );
}

/// An unknown job has neither a record nor a log, which is no error.
pub async fn nothing_is_known_of_an_unknown_job(case: Case) {
    let id = case.new_job().id;
    assert_eq!((case.find(id).await, case.log(id).await), (None, vec![]));
}

/// A tenant sees its own jobs only: by id, in lists, counts and leases.
pub async fn tenants_see_their_own_jobs_alone(case: Case) {
    let token = case.leased_job().await;
    case.renew(Renew { log: lines(0..2), ..renew(token) }).await;
    case.enqueue_n(2).await;
    let other = case.of_another_tenant();
    assert_eq!((other.find(token.job).await, other.log(token.job).await), (None, vec![]));
    assert_eq!((other.list(State::Ready).await, other.list(State::Leased).await), (vec![], vec![]));
    assert_eq!(other.counts().await, Counts::default());
    assert_eq!(other.lease(10).await, []);
    assert_eq!(other.sweep().await.next_due, None);
}

/// The check of a fit store succeeds; it may have warnings.
pub async fn a_fit_store_passes_its_check(case: Case) {
    case.broker.check().await.expect("the store is fit");
}

/// A tenant is listed from its first job until it is purged.
pub async fn a_tenant_is_known_to_the_store_until_it_is_purged(case: Case) {
    let is_known = async || case.broker.tenants().await.expect("a look succeeds").contains(&case.tenant);
    assert!(!is_known().await);
    case.enqueue(case.new_job()).await;
    assert!(is_known().await);
    assert_eq!(case.broker.purge(&case.tenant, 100).await.expect("a purge succeeds"), 0);
    assert!(!is_known().await);
}

/// A job can be looked up with the number of jobs that go before it, the holds that cover it, and the limits in use.
pub async fn a_job_is_told_what_it_waits_for(case: Case) {
    let limit = FleetLimit { name: plugin("p"), most: 1 };
    let narrow = Kind::parse("narrow").expect("a valid kind");
    let lanes = [LaneAsk { limit: Some(limit), ..LaneAsk::new(queue(), narrow.clone(), 9) }];
    let of_lane = || NewJob { kind: narrow.clone(), ..case.new_job() };
    case.enqueue(of_lane()).await;
    let queues = [(queue(), 1)];
    case.lease_as(LeaseAsk { lanes: &lanes, ..case.asking(&queues) }).await;
    let first = case.enqueue(case.new_job()).await;
    let second = case.enqueue(of_lane()).await;
    let third = case.enqueue(case.new_job()).await;
    let urgent = case.enqueue(NewJob { priority: Priority(200), ..case.new_job() }).await;
    case.enqueue(NewJob { queue: queue_named("other"), ..case.new_job() }).await;
    let later = case.enqueue(NewJob { delay: secs(60), ..case.new_job() }).await;
    let why = async |job| case.broker.why(&case.tenant, job).await.expect("a look succeeds");
    for (job, ahead) in [(urgent, 0), (first, 1), (second, 2), (third, 3), (later, 0)] {
        let facts = why(job).await.expect("it is there");
        assert_eq!((facts.ahead, facts.now), (ahead, case.now()));
        assert_eq!(facts.limits, [(plugin("p"), 1)]);
        assert_eq!(facts.holds, []);
    }
    let scope = HoldScope { queue: None, kind: Some(case.record(first).await.kind) };
    case.broker.hold(&case.tenant, NewHold::pause(scope.clone())).await.expect("a hold succeeds");
    case.lease_as(case.asking(&queues)).await;
    let held = why(third).await.expect("it is there");
    assert_eq!((held.ahead, held.holds.len(), &held.holds[0].scope), (0, 1, &scope));
    assert_eq!(why(second).await.expect("it is there").ahead, 0, "held ones are in nobody's way");
    assert_eq!(why(case.new_job().id).await, None);
}

/// A job in its group's line can be looked up with the turns of the group, and the job that was enqueued first of those that have
/// one.
pub async fn a_job_in_line_is_told_who_holds_its_group(case: Case) {
    let turns = async |job| case.broker.why(&case.tenant, job).await.expect("a look succeeds")?.group;
    let in_group = || JobOptions { group: Some(group("acme")), ..JobOptions::default() };
    let of_group = || NewJob { options: in_group(), ..case.new_job() };
    let set = async |rule: Option<GroupRule>| {
        let rules: BTreeMap<_, _> = rule.into_iter().map(|rule| (queue(), rule.into())).collect();
        case.broker.set_group_rules(&case.tenant, &rules).await.expect("it succeeds");
    };
    set(Some(GroupRule::Strict(OnDead::Hold))).await;
    let first = case.enqueue(of_group()).await;
    let second = case.enqueue(of_group()).await;
    let holder = |is_dead| Some(TurnHolder { job: first, is_dead });
    assert_eq!(turns(first).await, None, "it waits in no line");
    assert_eq!(turns(second).await, Some(GroupTurns { taken: 1, most: 1, holder: holder(false) }));
    let leases = case.lease(9).await;
    case.applied(leases[0].token, bury()).await;
    assert_eq!(turns(second).await, Some(GroupTurns { taken: 1, most: 1, holder: holder(true) }));
    let few = NonZeroU16::new(2).expect("not 0");
    set(Some(GroupRule::Concurrency(few))).await;
    case.sweep().await;
    let third = case.enqueue(of_group()).await;
    let found = turns(third).await.expect("it is in line");
    assert_eq!((found.taken, found.most, found.holder), (2, 2, holder(true)));
    set(None).await;
    assert_eq!(turns(third).await, None, "no rule holds it any more");
}

/// A job is told when a rate has all its tokens again, if some are taken.
pub async fn a_job_is_told_which_rates_are_spent(case: Case) {
    let of = RateOf::Plugin(plugin("p"));
    let rate = Rate::new(NonZeroU32::MIN, 1_000_000, NonZeroU32::new(2)).expect("a valid rate");
    let kind = case.new_job().kind;
    let lanes =
        [LaneAsk { rate: Some(RateLimit { of: of.clone(), rate }), ..LaneAsk::new(queue(), kind, 9) }];
    let rates = async |job| {
        case.broker.why(&case.tenant, job).await.expect("a look succeeds").expect("it is there").rates
    };
    case.enqueue_n(3).await;
    let last = case.enqueue(case.new_job()).await;
    assert_eq!(rates(last).await, [], "none was taken");
    let queues = [(queue(), 9)];
    case.lease_as(LeaseAsk { lanes: &lanes, ..case.asking(&queues) }).await;
    let full_at = FullAt(case.now().as_micros() + 2_000_000);
    assert_eq!(rates(last).await, [(of, full_at)]);
    case.pass(secs(2));
    assert_eq!(rates(last).await, [], "all are there");
}

/// A suspect is counted before all others of its queue, whatever their priority.
pub async fn suspects_are_ahead_of_all_others(case: Case) {
    let suspect = case.leased_job().await.job;
    let other = case.enqueue(NewJob { priority: Priority(255), ..case.new_job() }).await;
    case.pass(TTL);
    case.sweep().await;
    let ahead = async |job| {
        case.broker.why(&case.tenant, job).await.expect("a look succeeds").expect("it is there").ahead
    };
    assert_eq!((ahead(suspect).await, ahead(other).await), (0, 1));
}

/// Jobs ahead of another are counted up to [`AHEAD_COUNTED_MAX`], so that no look takes long.
pub async fn those_ahead_are_counted_up_to_a_bound(case: Case) {
    case.enqueue_n(AHEAD_COUNTED_MAX as usize + 5).await;
    let last = case.enqueue(case.new_job()).await;
    let facts = case.broker.why(&case.tenant, last).await.expect("a look succeeds").expect("it is there");
    assert_eq!(facts.ahead, AHEAD_COUNTED_MAX);
}

/// The jobs of a queue that aren't final are counted by state. A queue that has none isn't listed.
pub async fn each_queue_has_its_numbers(case: Case) {
    let rules = BTreeMap::from([(queue_named("b"), GroupRule::Strict(OnDead::Skip).into())]);
    case.broker.set_group_rules(&case.tenant, &rules).await.expect("it succeeds");
    let in_queue = |name| NewJob { queue: queue_named(name), ..case.new_job() };
    let of_group = || NewJob {
        options: JobOptions { group: Some(group("g")), ..JobOptions::default() },
        ..in_queue("b")
    };
    let later = |name| NewJob { delay: secs(60), ..in_queue(name) };
    case.enqueue_all(&[in_queue("a"), in_queue("a"), later("a"), of_group(), of_group(), later("c")]).await;
    let leased = case.lease_as(case.asking(&[(queue_named("a"), 1)])).await.leases;
    let census = |name, [ready, scheduled, blocked, leased]: [u64; 4]| QueueCensus {
        ready,
        scheduled: Some(scheduled),
        blocked: Some(blocked),
        leased: Some(leased),
        oldest_ready: (ready > 0).then(|| case.now()),
        ..QueueCensus::empty(queue_named(name))
    };
    let page = case.broker.queues(&case.tenant, None, 10).await.expect("a look succeeds");
    let all = [census("a", [1, 1, 0, 1]), census("b", [1, 0, 1, 0]), census("c", [0, 1, 0, 0])];
    assert_eq!((page.queues, page.next, page.now), (all.to_vec(), None, case.now()));
    case.applied(leased[0].token, succeed()).await;
    let rest = case.lease_as(case.asking(&[(queue_named("a"), 1)])).await.leases;
    case.applied(rest[0].token, bury()).await;
    let page = case.broker.queues(&case.tenant, None, 10).await.expect("a look succeeds");
    assert_eq!(page.queues[0], census("a", [0, 1, 0, 0]), "final jobs are in no queue");
    let other = case.of_another_tenant();
    assert_eq!(other.broker.queues(&other.tenant, None, 10).await.expect("a look succeeds").queues, []);
}

/// A job that waits behind those of a higher priority counts for the age of its queue. A job that comes back has waited since it was leased.
pub async fn the_oldest_ready_job_is_told_of_all_priorities(case: Case) {
    let oldest = async || {
        let page = case.broker.queues(&case.tenant, None, 1).await.expect("a look succeeds");
        page.queues[0].oldest_ready
    };
    let start = case.now();
    case.enqueue(NewJob { priority: Priority(1), ..case.new_job() }).await;
    case.pass(secs(5));
    case.enqueue(NewJob { priority: Priority(255), ..case.new_job() }).await;
    assert_eq!(oldest().await, Some(start));
    case.pass(secs(5));
    let tokens: Vec<_> = case.lease(2).await.iter().map(|lease| lease.token).collect();
    assert_eq!(oldest().await, None);
    let leased = case.now();
    case.pass(secs(5));
    case.applied(tokens[1], Settlement::Release { after: ms(0), reason: Reason::NoPlugin }).await;
    assert_eq!(oldest().await, Some(leased));
}

/// Each queue is on one page, however many there are, and whatever comes and goes meanwhile.
pub async fn pages_of_queues_fit_together(case: Case) {
    let names: Vec<String> = (0..25).map(|nth| format!("q{nth:02}")).collect();
    let jobs: Vec<NewJob> =
        names.iter().map(|name| NewJob { queue: queue_named(name), ..case.new_job() }).collect();
    case.enqueue_all(&jobs).await;
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = case.broker.queues(&case.tenant, after, 10).await.expect("a look succeeds");
        assert!(page.queues.len() <= 10);
        found.extend(page.queues.into_iter().map(|census| census.queue.to_string()));
        after = page.next;
        if after.is_none() {
            break;
        }
        case.enqueue(NewJob { queue: queue_named("a"), ..case.new_job() }).await;
    }
    assert_eq!(found, names);
}
