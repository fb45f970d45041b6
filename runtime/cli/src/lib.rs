//! The command `sandhog`.
//!
//! | room | is about |
//! |---|---|
//! | [`commands`] | each command: its arguments, and what it does |
//! | [`output`] | what is printed, for people and for programs |
//! | [`client`] | the use cases, beside a daemon or over the network |
//! | [`daemon_link`] | asking the daemon that runs |
//! | [`target`] | the place where a command does its work: a configuration, or a server |
//! | [`exit`] | how a command ends |

#![deny(clippy::print_stdout, clippy::print_stderr)]

mod client;
mod commands;
mod daemon_link;
mod exit;
pub mod output;
mod target;

use std::path::PathBuf;

use clap::builder::styling::{AnsiColor, Styles};
use clap::parser::ValueSource;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use commands::{
    breakers, check, completions, daemon, dev, enqueue, events, flow, groups, holds, job, jobs, limits, man,
    plugin, plugins, queues, reload, schedule, serve, status, tenant, token, usage,
};
pub use exit::{Exit, Failure};
use output::console::{Color, Console, Format, Remarks};
use target::{ServerOptions, Target};

const EXAMPLES: &str = "\
Examples:
  sandhog dev                                      a daemon to try things on, in this folder
  sandhog plugin new greet                         start a handler of one's own
  sandhog enqueue greet.greet '{\"name\": \"Ann\"}' --wait
  sandhog jobs --state dead                        what went wrong
  sandhog check && sandhog run                     check the configuration, then serve it";

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// Runs background jobs, each in a sandbox of its own.
#[derive(Debug, Parser)]
#[command(name = "sandhog", version, styles = STYLES, max_term_width = 110)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every command")]
struct Global {
    /// The daemon's file; plugin files lie in plugins.d beside it
    #[arg(
        long,
        short,
        global = true,
        value_name = "PATH",
        env = "SANDHOG_CONFIG",
        default_value = "sandhog.toml"
    )]
    config: PathBuf,
    #[command(flatten)]
    server: ServerOptions,
    /// Print results as one JSON document
    #[arg(long, global = true)]
    json: bool,
    /// Print results and errors only: no remarks, no progress
    #[arg(long, short, global = true)]
    quiet: bool,
    /// When to use colours; NO_COLOR is respected
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", hide_possible_values = true)]
    color: Color,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(daemon::Run),
    Serve(serve::Serve),
    Dev(dev::Dev),
    Check(check::Check),
    Reload(reload::Reload),
    Status(status::Status),
    Enqueue(Box<enqueue::Enqueue>),
    #[command(subcommand)]
    Job(job::Job),
    Jobs(jobs::Jobs),
    #[command(subcommand)]
    Flow(flow::FlowCommand),
    Pause(holds::Pause),
    Resume(holds::Resume),
    Holds(holds::Holds),
    #[command(subcommand)]
    Limit(limits::LimitCommand),
    #[command(subcommand)]
    Breaker(breakers::BreakerCommand),
    Groups(groups::Groups),
    Queues(queues::Queues),
    Events(events::Events),
    Usage(usage::Usage),
    #[command(subcommand)]
    Schedule(schedule::Schedule),
    Schedules(schedule::List),
    #[command(subcommand)]
    Plugin(plugin::Plugin),
    Plugins(plugins::Plugins),
    #[command(subcommand)]
    Tenant(tenant::Tenant),
    #[command(subcommand)]
    Token(token::TokenCommand),
    Completions(completions::Completions),
    Man(man::Man),
}

/// The commands by what they are about, in the order in which `--help` shows them.
const GROUPS: [(&str, &[&str]); 6] = [
    ("Daemon", &["run", "serve", "dev", "check", "reload", "status"]),
    (
        "Jobs",
        &[
            "enqueue", "job", "jobs", "flow", "pause", "resume", "holds", "limit", "breaker", "groups",
            "queues", "events", "usage",
        ],
    ),
    ("Schedules", &["schedule", "schedules"]),
    ("Plugins", &["plugin", "plugins"]),
    ("Tenants", &["tenant", "token"]),
    ("This command", &["completions", "man"]),
];

/// Settings of the log that a command writes to standard error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logging {
    /// A filter as `tracing-subscriber` reads it, such as `info`.
    pub filter: String,
    /// The format of the lines.
    pub format: LogFormat,
    /// The kind of process that logs: a daemon, which goes on even if its log fails, or a command for somebody who waits for
    /// it.
    pub by: LoggedBy,
}

/// The kind of process that logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoggedBy {
    /// A daemon: a failing log must cost it nothing but log lines.
    Daemon,
    /// A command for somebody who waits for its end.
    Command,
}

/// Format of the daemon's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// A line each, with colours on a terminal.
    Pretty,
    /// A JSON object a line.
    Json,
}

impl Cli {
    /// Parses the command line of this process. If it is wrong, or asks for help, the process ends here.
    #[must_use]
    pub fn from_process() -> Self {
        let matches = command().get_matches();
        let mut cli = Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        let is_said = |name| matches.value_source(name) == Some(ValueSource::CommandLine);
        let server = &mut cli.global.server;
        (server.is_url_said, server.is_token_said) = (is_said("url"), is_said("token"));
        cli
    }

    /// Returns the log settings of the command.
    #[must_use]
    pub fn logging(&self) -> Logging {
        match &self.command {
            Command::Run(run) => run.logging(),
            Command::Serve(serve) => serve.logging(),
            Command::Dev(dev) => dev.logging(),
            _ => Logging { filter: "warn".to_owned(), format: LogFormat::Pretty, by: LoggedBy::Command },
        }
    }

    /// Returns the console that the command prints to.
    #[must_use]
    pub fn console(&self) -> Console {
        let format = if self.global.json { Format::Json } else { Format::People };
        let remarks = if self.global.quiet { Remarks::Off } else { Remarks::On };
        Console::new(format, remarks, self.global.color)
    }

    /// Runs the command.
    ///
    /// # Errors
    /// If it fails.
    pub async fn execute(self) -> Result<Exit, Failure> {
        let console = &self.console();
        let Global { config, server, .. } = &self.global;
        let here = |command| server.here(config, command);
        let there = || server.target(config, console);
        match self.command {
            Command::Run(run) => run.execute(here("run")?).await,
            Command::Serve(serve) => serve.execute(here("serve")?).await,
            Command::Dev(dev) => {
                here("dev")?;
                dev.execute(console).await
            }
            Command::Check(check) => check.execute(here("check")?, console).await,
            Command::Reload(reload) => reload.execute(&there()?, console).await,
            Command::Status(status) => status.execute(&there()?, console).await,
            Command::Enqueue(enqueue) => enqueue.execute(&there()?, console).await,
            Command::Job(job) => job.execute(&there()?, console).await,
            Command::Jobs(jobs) => jobs.execute(&there()?, console).await,
            Command::Flow(flow) => flow.execute(&there()?, console).await,
            Command::Pause(pause) => pause.execute(&there()?, console).await,
            Command::Resume(resume) => resume.execute(&there()?, console).await,
            Command::Holds(holds) => holds.execute(&there()?, console).await,
            Command::Limit(limit) => limit.execute(&there()?, console).await,
            Command::Breaker(breaker) => breaker.execute(&there()?, console).await,
            Command::Groups(groups) => groups.execute(&there()?, console).await,
            Command::Queues(queues) => queues.execute(&there()?, console).await,
            Command::Events(events) => events.execute(&there()?, console).await,
            Command::Usage(usage) => usage.execute(&there()?, console).await,
            Command::Schedule(schedule) => schedule.execute(&there()?, console).await,
            Command::Schedules(list) => list.execute(&there()?, console).await,
            Command::Plugin(plugin) => {
                let target = match plugin.asks_daemon() {
                    true => there()?,
                    false => Target::Config(here("plugin")?.to_owned()),
                };
                plugin.execute(&target, console).await
            }
            Command::Plugins(plugins) => plugins.execute(&there()?, console).await,
            Command::Tenant(tenant) => tenant.execute(&there()?, console).await,
            Command::Token(token) => {
                here("token")?;
                token.execute(console)
            }
            Command::Completions(completions) => {
                here("completions")?;
                completions.execute(console)
            }
            Command::Man(man) => {
                here("man")?;
                man.execute(console)
            }
        }
    }
}

/// The command line, with its commands in groups.
fn command() -> clap::Command {
    let command = Cli::command();
    let style = STYLES;
    let (header, literal) = (*style.get_header(), *style.get_literal());
    let mut groups = String::new();
    for (group, names) in GROUPS {
        groups += &format!("{header}{group}:{header:#}\n");
        for name in names {
            let about = command.find_subcommand(name).and_then(|command| command.get_about());
            let about = about.map(ToString::to_string).unwrap_or_default();
            groups += &format!("  {literal}{name:11}{literal:#} {about}\n");
        }
        groups += "\n";
    }
    command
        .help_template(format!(
            "{{about}}\n\n{{usage-heading}} {{usage}}\n\n{groups}{{options}}{{after-help}}"
        ))
        .after_help(format!("{EXAMPLES}\n\n{}", exit::EXIT_CODES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn every_command_is_in_a_group_and_says_what_it_does() {
        let command = command();
        let named: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        let there: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
        assert_eq!(named, there);
        assert!(command.get_subcommands().all(|command| command.get_about().is_some()));
    }

    const PAGE: &str = include_str!("../../../docs/commands.md");

    /// Each command that does something, by its full name.
    fn leaves(command: &clap::Command, path: &str) -> Vec<(String, clap::Command)> {
        let path = if path.is_empty() {
            command.get_name().to_owned()
        } else {
            format!("{path} {}", command.get_name())
        };
        let does_something = !command.has_subcommands() || !command.is_subcommand_required_set();
        let itself = does_something.then(|| (path.clone(), command.clone()));
        itself.into_iter().chain(command.get_subcommands().flat_map(|sub| leaves(sub, &path))).collect()
    }

    #[test]
    fn every_command_and_option_is_on_the_page() {
        let (general, _) = PAGE.split_once("\n## ").expect("the page has parts");
        let options = |command: &clap::Command| -> Vec<String> {
            let named = command.get_arguments().filter_map(|argument| argument.get_long());
            named
                .filter(|name| *name != "help" && *name != "version")
                .map(|name| format!("--{name}"))
                .collect()
        };
        let has = |text: &str, option: &str| {
            text.split(option)
                .skip(1)
                .any(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '-'))
        };
        for option in options(&command()) {
            assert!(has(general, &option), "{option}");
        }
        let headings: Vec<&str> = PAGE.lines().filter_map(|line| line.strip_prefix("### `")).collect();
        let leaves = leaves(&command(), "");
        assert_eq!(headings.len(), leaves.len());
        for ((path, command), heading) in leaves.iter().zip(headings) {
            assert!(heading.starts_with(path), "{path} stands where {heading} does");
            let (_, part) = PAGE.split_once(&format!("### `{heading}")).expect("it was found there");
            let part = format!("{heading}{}", part.split("\n##").next().unwrap_or_default());
            for option in options(command) {
                assert!(has(&part, &option), "{path} {option}");
            }
        }
    }

    #[test]
    fn the_page_has_the_exit_codes_of_the_help() {
        let codes =
            exit::EXIT_CODES.lines().filter_map(|line| line.split_whitespace().next()?.parse::<u8>().ok());
        for code in codes {
            assert!(PAGE.contains(&format!("\n| {code} | ")), "{code}");
        }
    }
}
