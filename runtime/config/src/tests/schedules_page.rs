//! The examples of `docs/schedules.md` are right, and fire when the page says.

use sandhog_core::schedule::Schedule;
use sandhog_core::time::Timestamp;

use super::{PLUGIN, Site};

const PAGE: &str = include_str!("../../../../docs/schedules.md");

/// The one schedule of an example.
fn schedule(example: &str) -> Schedule {
    let config = Site::with_plugin("", &format!("{PLUGIN}\n{example}")).load();
    let config = config.unwrap_or_else(|problems| panic!("{example}: {problems}"));
    let [schedule] = &config.plugins[0].schedules[..] else { panic!("one schedule: {example}") };
    schedule.clone()
}

/// A time as it is shown.
fn point(schedule: &Schedule, text: &str) -> Timestamp {
    let (clock, offset) = text.rsplit_once(' ').expect("a time and its offset");
    let at = schedule.times.zone().parse_time(&format!("{}{offset}", clock.replace(' ', "T")));
    at.unwrap_or_else(|| panic!("{text} is a time"))
}

#[test]
fn every_example_fires_when_the_page_says() {
    let mut blocks = PAGE.split("```").skip(1).step_by(2).peekable();
    let (mut examples, mut shown) = (0, 0);
    while let Some(block) = blocks.next() {
        let Some(example) = block.strip_prefix("toml\n") else { continue };
        let schedule = schedule(example);
        examples += 1;
        let times = blocks.next_if(|next| next.starts_with("text\nafter "));
        let Some((after, times)) =
            times.and_then(|times| times.strip_prefix("text\nafter ")?.split_once('\n'))
        else {
            continue;
        };
        let zone = schedule.times.zone();
        let expected: Vec<&str> = times.lines().collect();
        let found = schedule.times.after(point(&schedule, after)).take(expected.len());
        assert_eq!(found.map(|at| zone.show(at)).collect::<Vec<_>>(), expected, "{example}");
        shown += 1;
    }
    assert!(examples >= 7 && shown >= 6, "{examples} examples, {shown} of them with times");
}

/// What the configuration says about a schedule that is wrong.
fn problems(schedule: &str) -> String {
    let loaded = Site::with_plugin("", &format!("{PLUGIN}\n[schedules.nightly]\n{schedule}")).load();
    match loaded {
        Ok(config) => config.broken.iter().map(|broken| broken.problems.to_string()).collect(),
        Err(problems) => problems.to_string(),
    }
}

#[test]
fn what_is_wrong_with_a_schedule_is_told_with_its_rule() {
    for (schedule, told) in [
        ("", "it is missing"),
        ("cron = \"0 0 1--100000000 * *\"", "is no day of the month: a number from 1 to 31"),
        ("cron = \"@reboot\"", "no clock tells of a start"),
        ("cron = [\"@daily\", \"0 25 * * *\"]", "`25` is no hour"),
        ("cron = []", "1 to 16"),
        ("cron = \"@daily\"\nevery = \"1h\"", "it has `cron` as well"),
        ("cron = \"@daily\"\nphase = \"1h\"", "it goes with `every` alone"),
        ("every = \"10ms\"", "from 1s to"),
        ("every = \"1h\"\nphase = \"1h\"", "less than `every`"),
        ("every = \"1h\"\ntimezone = \"Europe/Bielefeld\"", "is not a time zone"),
        ("every = \"1h\"\nstart = 2026-06-01\nend = 2026-05-01", "after `start`"),
        ("every = \"1h\"\nstart = \"tomorrow\"", "it is no point in time"),
        ("every = \"1h\"\nkind = \"other\"", "is not a kind of this plugin"),
        ("every = \"1h\"\noverlap = \"skipp\"", "did you mean \"skip\"?"),
        ("every = \"1h\"\nspread = \"2d\"", "at most 1d"),
        ("every = \"1h\"\ncatch_up = { window = \"32d\" }", "at most 31d"),
        ("every = \"1h\"\ncatch_up = { most = 1001 }", "at most 1000"),
        ("every = \"1h\"\npriority = 256", "a whole number from 0 to 255"),
        ("every = \"1h\"\njitter = \"5s\"", "there is no such key"),
        ("every = \"1h\"\ntimes = 0", "it can't be zero"),
    ] {
        let problems = problems(schedule);
        assert!(problems.contains(told), "{schedule}: {problems}");
    }
}

#[test]
fn a_name_that_two_plugins_of_a_tenant_have_is_told() {
    let with = |name: &str| {
        let plugin = PLUGIN.replace("name = \"a\"", &format!("name = \"{name}\""));
        let plugin = plugin.replace("kinds = [\"", &format!("kinds = [\"{name}."));
        format!("{plugin}\n[schedules.nightly]\nevery = \"1h\"")
    };
    let site = Site::new(&[
        ("sandhog.toml", ""),
        ("plugins.d/a.toml", &with("a")),
        ("plugins.d/b.toml", &with("b")),
        ("plugins.d/a.wasm", ""),
        ("plugins.d/b.wasm", ""),
    ]);
    let problems = site.load().expect_err("one of them is wrong").to_string();
    assert!(problems.contains("has a schedule \"nightly\" already"), "{problems}");
    assert!(problems.contains("plugins.d/b.toml:8"), "{problems}");
}
