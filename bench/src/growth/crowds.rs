//! Growth with tenants: 1, 10, 100 and 1,000 tenants, then as many plugins of one tenant in one queue, then as many queues;
//! each time with the same total number of jobs.

use std::path::Path;
use std::sync::Arc;

use sandhog_broker::Broker;
use sandhog_core::id::{Kind, QueueName, TenantId};
use sandhog_core::job::NewJob;
use sandhog_tests::{Backend, Daemon, ECHO, Fsync, Site, component_of, tenant};

use super::{add, load};
use crate::figures::Figures;
use crate::process::Process;
use crate::server::Server;

const SIZES: [usize; 4] = [1, 10, 100, 1_000];
const JOBS: usize = 50_000;
const ROUNDS: usize = 3;

/// Dimension that grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    /// Tenants, each with one plugin; all plugins have the same code.
    Tenants,
    /// Plugins, each with code of its own, all with one queue.
    Plugins,
    /// Queues, each of a plugin with code of its own.
    Queues,
}

pub(super) async fn run(figures: &mut Figures) {
    for (of, name) in [(Of::Tenants, "tenants"), (Of::Plugins, "plugins"), (Of::Queues, "queues")] {
        if std::env::var("OF").is_ok_and(|of| of != name) {
            continue;
        }
        let mut crowds = Vec::new();
        for size in SIZES {
            crowds.push(Crowd::new(of, size).await);
        }
        let mut measured = vec![Vec::new(); SIZES.len()];
        for _ in 0..=ROUNDS {
            for (rounds, crowd) in measured.iter_mut().zip(&mut crowds) {
                rounds.push(crowd.round().await);
            }
        }
        for (crowd, rounds) in crowds.iter().zip(measured) {
            let case = format!("growth/{name}-{}", crowd.size);
            for (nth, metric) in
                ["jobs_per_s", "redis_commands_per_job", "redis_scripts_per_job", "processor_us_per_job"]
                    .into_iter()
                    .enumerate()
            {
                // The first round only warms the daemon up.
                let values: Vec<f64> = rounds[1..].iter().map(|round| round[nth]).collect();
                add(figures, &case, "sandhog", metric, &values);
            }
            add(figures, &case, "sandhog", "daemon_bytes", &[crowd.daemon[0].resident() as f64]);
        }
    }
}

/// Site with many tenants, plugins or queues, and its daemon.
struct Crowd {
    of: Of,
    size: usize,
    broker: Arc<dyn Broker>,
    server: Server,
    daemon: [Daemon; 1],
    tenants: Vec<TenantId>,
    // Last, as Redis and the folder have to outlive the daemon.
    _site: Site,
}

impl Crowd {
    async fn new(of: Of, size: usize) -> Self {
        let numbers = 0..if of == Of::Tenants { size } else { 1 };
        let names: Vec<String> = numbers.map(|n| format!("t{n}")).collect();
        let tables: String = names.iter().map(|name| format!("[tenants.{name}]\n")).collect();
        let mut site =
            Site::new(Backend::Redis(Fsync::EverySecond), &format!("concurrency = 100\n\n{tables}"));
        for n in 0..size {
            let (plugin, component, tenant, queue) = match of {
                Of::Tenants => ("echo".to_owned(), 0, n, 0),
                Of::Plugins => (format!("echo-{n}"), n, 0, 0),
                Of::Queues => (format!("echo-{n}"), n, 0, n),
            };
            let file = format!("echo-{component}.wasm");
            if component == n {
                site.write(&format!("plugins.d/{file}"), &component_of(ECHO, &file));
            }
            let text = format!("kinds = [\"echo.{component}\"]\nqueue = \"q{queue}\"\n");
            site = site.with_plugin(&plugin, &names[tenant], Path::new(&file), &text);
        }
        // A thousand components take a while to compile for the first time; that isn't to be part of the daemon's start.
        let checked = site.sandhog(&["check", "--offline"]);
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
        let server = Server::at(&site.redis().url());
        let (broker, daemon) = (site.broker().await, [site.daemon()]);
        daemon[0].signal("STOP");
        let tenants = names.iter().map(|name| tenant(name)).collect();
        Self { of, size, broker, server, daemon, tenants, _site: site }
    }

    fn job(&self, n: usize) -> NewJob {
        let nth = n % self.size;
        let (kind, queue) = match self.of {
            Of::Tenants => (0, 0),
            Of::Plugins => (nth, 0),
            Of::Queues => (nth, nth),
        };
        NewJob {
            kind: Kind::parse(&format!("echo.{kind}")).expect("a kind"),
            queue: QueueName::parse(&format!("q{queue}")).expect("a name"),
            ..load::job(n)
        }
    }

    /// Runs a round. Returns jobs finished per second; and for each job, Redis commands, script calls, and processor time of
    /// daemon and Redis together.
    async fn round(&mut self) -> [f64; 4] {
        let jobs_each = JOBS / self.tenants.len();
        load::enqueue(&*self.broker, &self.tenants, jobs_each, |n| self.job(n)).await;
        let daemon = Process(self.daemon[0].id());
        let (before, used) = (self.server.done(), daemon.used());
        let jobs_per_s = load::work_off(&self.daemon, &*self.broker, &self.tenants, jobs_each).await;
        let (done, used) = (self.server.done().since(&before), daemon.used().since(used));
        let each = |n: u64| n as f64 / JOBS as f64;
        let processor = (used.processor + done.processor).as_secs_f64() * 1e6 / JOBS as f64;
        [jobs_per_s, each(done.commands()), each(done.scripts()), processor]
    }
}
