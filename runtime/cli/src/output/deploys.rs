//! Output of deploys: the outcome of a reload, the status of plugins, the latest events.

use comfy_table::Cell;
use sandhog_api::{DeployEvent, DeployEventKind, PluginState, PluginStatus, ReloadOutcome, Reloaded};
use sandhog_core::text;

use super::{Column, Paint, count, of, table};

/// Renders the outcome of a reload, for people.
#[must_use]
pub fn outcome(reloaded: &Reloaded, paint: Paint) -> String {
    match reloaded.outcome {
        ReloadOutcome::Unchanged => "nothing has changed".to_owned(),
        ReloadOutcome::Applied => {
            let restart =
                |key: &String| format!("{} {key}: needs a restart of the daemon", paint.red("waits"));
            let lines = reloaded.changes.iter().map(|change| line(change, paint));
            lines.chain(reloaded.needs_restart.iter().map(restart)).collect::<Vec<_>>().join("\n")
        }
        ReloadOutcome::Rejected => reloaded.problems.clone().unwrap_or_default(),
    }
}

/// Renders an event without its time, for people.
#[must_use]
pub fn event(event: &DeployEvent, paint: Paint) -> String {
    line(event, paint)
}

fn line(event: &DeployEvent, paint: Paint) -> String {
    let what = match event.what {
        DeployEventKind::Failed | DeployEventKind::Rejected | DeployEventKind::RolledBack => {
            paint.red(event.what.slug())
        }
        _ => paint.green(event.what.slug()),
    };
    let message = event.message.as_ref().map(|message| format!(": {}", text::line(message)));
    format!("{what} {}{}", subject(event), message.unwrap_or_default())
}

/// Returns what an event is about: a plugin with its revisions, a tenant, or the configuration.
fn subject(event: &DeployEvent) -> String {
    let name = match (&event.tenant, &event.plugin) {
        (Some(tenant), Some(plugin)) => format!("{tenant}/{plugin}"),
        (Some(tenant), None) => format!("tenant {tenant}"),
        _ => "configuration".to_owned(),
    };
    let revision = event.revision.as_deref().map(|revision| format!(" {}", short(revision)));
    let was = event.was.as_deref().map(|was| format!(" (was {})", short(was)));
    format!("{name}{}{}", revision.unwrap_or_default(), was.unwrap_or_default())
}

/// Renders the latest events, for people.
#[must_use]
pub fn events(events: &[DeployEvent], paint: Paint) -> String {
    let lines = events.iter().map(|event| {
        let at = paint.dim(&event.at.to_string());
        format!("{at}  {}", line(event, paint))
    });
    let lines: Vec<String> = lines.collect();
    if lines.is_empty() { "nothing was deployed yet".to_owned() } else { lines.join("\n") }
}

/// Renders the status of plugins, for people.
#[must_use]
pub fn plugins(plugins: &[PluginStatus], paint: Paint) -> String {
    if plugins.is_empty() {
        return "no plugin is in force".to_owned();
    }
    let columns = [
        Column::Left("tenant"),
        Column::Left("plugin"),
        Column::Left("revision"),
        Column::Left("since"),
        Column::Left("state"),
        Column::Right("running"),
        Column::Left("kept"),
    ];
    let row = |plugin: &PluginStatus| {
        let since = plugin.since.map(|since| since.to_string());
        let earlier = plugin.kept.iter().filter(|kept| Some(*kept) != plugin.revision.as_ref());
        vec![
            Cell::new(plugin.tenant.as_deref().unwrap_or("-")),
            Cell::new(&plugin.plugin),
            Cell::new(plugin.revision.as_deref().map_or("-", short)),
            Cell::new(since.as_deref().map_or("-", |since| since.split('.').next().unwrap_or(since))),
            state_cell(plugin),
            Cell::new(plugin.running),
            Cell::new(earlier.map(|kept| short(kept)).collect::<Vec<_>>().join(" ")),
        ]
    };
    let rows = table(&columns, plugins.iter().map(row), paint);
    let failed: Vec<String> = plugins.iter().filter_map(|plugin| failure(plugin, paint)).collect();
    if failed.is_empty() {
        return rows;
    }
    format!("{rows}\n\n{} not as the TOML has it:\n{}", of(failed.len() as u64, "plugin"), failed.join("\n"))
}

fn failure(plugin: &PluginStatus, paint: Paint) -> Option<String> {
    let message = plugin.message.as_ref()?;
    let tenant = plugin.tenant.as_ref().map(|tenant| format!("{tenant}/")).unwrap_or_default();
    Some(format!("{} {tenant}{}: {}", paint.red("failed"), plugin.plugin, text::block(message)))
}

fn state_cell(plugin: &PluginStatus) -> Cell {
    let color = match plugin.state {
        PluginState::Serving => comfy_table::Color::DarkGreen,
        PluginState::Canary => comfy_table::Color::DarkBlue,
        PluginState::RolledBack | PluginState::Draining => comfy_table::Color::DarkYellow,
        PluginState::Failed => comfy_table::Color::DarkRed,
    };
    let trial = plugin.canary.as_ref().map(|canary| {
        let (new, failures) = (count(canary.new.runs), count(canary.new.failures));
        let share = (canary.share * 1000.0).round() / 10.0;
        format!(
            " {share}%: {} ({new} of {} runs, {failures} failed)",
            short(&canary.revision),
            canary.runs_min
        )
    });
    Cell::new(format!("{}{}", plugin.state.slug(), trial.unwrap_or_default())).fg(color)
}

/// Returns the first digits of a revision: enough to tell revisions apart.
fn short(revision: &str) -> &str {
    const SHOWN: usize = 12;
    revision.get(..SHOWN).unwrap_or(revision)
}

#[cfg(test)]
mod tests {
    use sandhog_api::{CanaryStatus, SideStatus};
    use sandhog_core::time::Timestamp;

    use super::*;

    fn status() -> PluginStatus {
        PluginStatus {
            tenant: Some("acme".into()),
            plugin: "hog".into(),
            state: PluginState::Serving,
            revision: Some("a".repeat(64)),
            since: Some(Timestamp::from_millis(1_500).into()),
            message: None,
            canary: None,
            running: 3,
            kept: vec!["a".repeat(64), "b".repeat(64)],
        }
    }

    #[test]
    fn a_table_says_what_is_in_force_what_is_tried_and_what_is_wrong() {
        let side = |runs, failures| SideStatus { runs, failures, fuel_mean: None };
        let canary = CanaryStatus {
            revision: "c".repeat(64),
            share: 0.125,
            runs_min: 100,
            old: side(300, 1),
            new: side(40, 2),
        };
        let tried = PluginStatus { state: PluginState::Canary, canary: Some(canary), ..status() };
        let failed =
            PluginStatus { state: PluginState::Failed, message: Some("no \x1b file".into()), ..status() };
        let text = plugins(&[status(), tried, failed], Paint::Plain);
        for part in [
            "aaaaaaaaaaaa",
            "1970-01-01T00:00:01",
            "serving",
            "canary 12.5%: cccccccccccc (40 of 100 runs, 2 failed)",
            "bbbbbbbbbbbb",
            "1 plugin not as the TOML has it:\nfailed acme/hog: no \\u{1b} file",
        ] {
            assert!(text.contains(part), "{part}:\n{text}");
        }
    }

    #[test]
    fn an_outcome_says_what_was_done_and_what_waits() {
        let event = DeployEvent {
            at: Timestamp::from_millis(0).into(),
            what: DeployEventKind::Deployed,
            tenant: Some("acme".into()),
            plugin: Some("hog".into()),
            revision: Some("a".repeat(64)),
            was: Some("b".repeat(64)),
            message: None,
        };
        let applied = Reloaded::applied(vec![event], vec!["lease".into()]);
        let text = outcome(&applied, Paint::Plain);
        let expected =
            "deployed acme/hog aaaaaaaaaaaa (was bbbbbbbbbbbb)\nwaits lease: needs a restart of the daemon";
        assert_eq!(text, expected);
        let document = serde_json::to_value(&applied).expect("JSON");
        assert_eq!(document["changes"][0]["at"], "1970-01-01T00:00:00Z");
        assert_eq!(document["needs_restart"][0], "lease");
    }
}
