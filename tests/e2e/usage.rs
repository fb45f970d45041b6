//! What is spent is added up exactly.

use std::time::Duration;

use sandhog_broker::{Counts, Query};
use sandhog_core::account::{Account, Day};
use sandhog_core::budget::Fuel;
use sandhog_core::job::{NewJob, State};
use sandhog_tests::{Backend, Fsync, Site, all_final, hog_job, tenant};

const TERMS: &str = "[limits]\nfuel = 50_000_000\n\n\
    [retry]\nmax_attempts = 3\nbackoff = { base = \"10ms\", factor = 1.0, jitter = \"none\" }\n";

fn work() -> Vec<NewJob> {
    let mut jobs = Vec::new();
    for _ in 0..50 {
        jobs.push(hog_job("hog.echo", r#""0123456789""#));
        jobs.push(hog_job("hog.count", r#"{"counter": "runs"}"#));
        jobs.push(hog_job("hog.fail", r#"{"transient": {"attempts": 2}}"#));
    }
    jobs.extend((0..4).map(|_| hog_job("hog.spin", "{}")));
    jobs.extend((0..4).map(|_| hog_job("hog.panic", r#"{"message": "no"}"#)));
    jobs
}

/// Two daemons share the work; whoever settled what, the sums are those of the jobs' own records.
async fn usage_is_the_sum_over_jobs(backend: Backend) {
    let site = Site::new(backend, "[tenants.acme]\n[tenants.globex]\n")
        .with_hog("acme", TERMS)
        .with_hog("globex", TERMS);
    let (broker, tenants) = (site.broker().await, ["acme", "globex"].map(tenant));
    let _daemons = [site.daemon(), site.daemon()];
    for of in &tenants {
        broker.enqueue(of, &work()).await.expect("the broker is up");
    }
    let (mut fuel, mut attempts, mut payloads) = (0, 0, 0);
    for of in &tenants {
        let counts = all_final(&*broker, of).await;
        assert_eq!(counts, Counts::of(&[(State::Succeeded, 150), (State::Dead, 8)]));
        let usage = broker.usage(of, Day(0)..=Day(u32::MAX)).await.expect("the broker is up");
        let spent = usage.iter().fold(Account::default(), |sum, of_day| sum.and(&of_day.account));
        let (mut wall, mut cpu, mut calls, mut own_fuel) = (Duration::ZERO, Duration::ZERO, 0, 0);
        for state in [State::Succeeded, State::Dead] {
            let query = Query::of(state, Query::LIMIT_MAX);
            for job in broker.jobs(of, query).await.expect("the broker is up").jobs {
                let micros =
                    |time: Duration| Duration::from_micros(time.as_micros().try_into().expect("short"));
                own_fuel += job.usage.fuel.0;
                wall += micros(job.usage.wall);
                cpu += micros(job.usage.cpu);
                calls += job.usage.host_calls;
                attempts += u64::from(job.attempts);
                payloads += job.payload.len() as u64 * u64::from(job.attempts);
            }
        }
        assert_eq!(spent.fuel, Fuel(own_fuel));
        assert_eq!((spent.wall_us, spent.cpu_us), (wall.as_micros() as u64, cpu.as_micros() as u64));
        assert_eq!((spent.host_calls, spent.runs[..3].to_vec()), (calls, vec![150, 108, 8]));
        assert!(spent.memory > 0);
        fuel += own_fuel;
    }

    let report = site.json(&["usage", "--by", "tenant"]);
    assert_eq!(report["rows"].as_array().map(Vec::len), Some(2));
    let total = &report["total"];
    assert_eq!((total["fuel"].as_u64(), total["attempts"].as_u64()), (Some(fuel), Some(attempts)));
    assert_eq!(total["bytes_in"].as_u64(), Some(payloads));
    let output = site.sandhog(&["usage", "--by", "plugin", "--tenant", "acme", "--format", "csv"]);
    let text = String::from_utf8(output.stdout).expect("text");
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.len() == 2 && lines[1].starts_with("acme,hog,150,108,8,0,0,266,"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_is_the_sum_over_jobs_on_redis() {
    usage_is_the_sum_over_jobs(Backend::Redis(Fsync::EverySecond)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_is_the_sum_over_jobs_on_the_embedded_broker() {
    usage_is_the_sum_over_jobs(Backend::Embedded).await;
}
