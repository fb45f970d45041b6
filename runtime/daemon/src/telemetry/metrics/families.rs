//! Every metric by name, with its labels and what it counts. `docs/metrics.md` has the same table for people.

/// Family of metrics: those of one name.
#[derive(Debug, PartialEq, Eq)]
pub struct Family {
    /// Name, in the units of Prometheus.
    pub name: &'static str,
    /// Type of the metrics.
    pub of: Type,
    /// Names of the labels, in the order in which samples have their values.
    pub labels: &'static [&'static str],
    /// Description.
    pub help: &'static str,
}

/// Type of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// Number that only rises while the process lives.
    Counter,
    /// Number that rises and falls.
    Gauge,
    /// Counts of values by upper bounds, and their sum.
    Histogram,
}

impl Type {
    /// Name in the text format.
    #[must_use]
    pub fn slug(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

macro_rules! families {
    ($($name:ident = $of:ident $text:literal [$($label:literal),*] $help:literal;)*) => {
        $(
            #[doc = concat!("The metric `", $text, "`.")]
            pub const $name: Family =
                Family { name: $text, of: Type::$of, labels: &[$($label),*], help: $help };
        )*

        /// Every family, in the order in which they are told.
        pub const ALL: &[Family] = &[$($name),*];
    };
}

families! {
    BUILD_INFO = Gauge "sandhog_build_info" ["version"] "Version of this process; always 1.";
    PROCESS_START = Gauge "sandhog_process_start_timestamp_seconds" [] "Time at which this process started.";
    SLOTS = Gauge "sandhog_slots" [] "Maximum number of runs at once of this daemon.";
    RUNS = Gauge "sandhog_runs" ["tenant"] "Runs under way on this daemon.";
    BROKER_CALL = Histogram "sandhog_broker_call_seconds" ["call"] "Time that calls of this process to the broker took.";
    BROKER_FAILURES = Counter "sandhog_broker_call_failures_total" ["call"] "Calls of this process to the broker that failed.";
    BROKER_UP = Gauge "sandhog_broker_up" ["tenant"] "Whether the broker answered for the tenant just now; if not, what the store tells is left out.";

    ENQUEUED = Counter "sandhog_jobs_enqueued_total" ["tenant", "answer"] "Jobs that this process has asked the broker to store, by its answer.";
    SETTLED = Counter "sandhog_jobs_settled_total" ["tenant", "queue", "kind", "outcome", "reason"] "Attempts of this daemon that were settled, by what became of the job.";
    WAIT = Histogram "sandhog_job_wait_seconds" ["tenant", "queue", "kind"] "Time from the enqueueing of a job to the start of its first attempt, a delay of its own included.";
    RUN = Histogram "sandhog_job_run_seconds" ["tenant", "queue", "kind"] "Time that runs took.";
    TOTAL = Histogram "sandhog_job_total_seconds" ["tenant", "queue", "kind"] "Time from the enqueueing of a job to its end.";
    ATTEMPTS = Histogram "sandhog_job_attempts" ["tenant", "queue", "kind"] "Attempts that jobs took to their end.";
    FUEL = Histogram "sandhog_job_fuel" ["tenant", "queue", "kind"] "Fuel that runs spent.";
    MEMORY = Histogram "sandhog_job_memory_peak_bytes" ["tenant", "queue", "kind"] "Most memory that runs held.";
    DEFERRED = Counter "sandhog_jobs_deferred_total" ["tenant", "reason"] "Jobs that this daemon had leased and gave back without a run.";
    LEASE_LOST = Counter "sandhog_lease_lost_total" ["tenant"] "Attempts of this daemon whose lease went to another.";
    LEASE_EXPIRED = Counter "sandhog_lease_expired_total" ["tenant"] "Jobs that this daemon buried as their leases ran out too often.";
    LATE_SETTLEMENTS = Counter "sandhog_late_settlements_refused_total" ["tenant"] "Settlements of this daemon that the broker refused as the lease was another's.";
    HOST_FAULTS = Counter "sandhog_host_faults_total" ["tenant"] "Runs in which this daemon, not the handler, went wrong.";
    BREAKER_OPENED = Counter "sandhog_breaker_opened_total" ["tenant"] "Breakers that this daemon has opened.";
    FUEL_USED_UP = Counter "sandhog_fuel_used_up_total" ["tenant"] "Times that this daemon found a tenant's fuel of the minute or the day used up.";
    DEPLOYS = Counter "sandhog_deploys_total" ["tenant", "what"] "Events of deploys on this daemon.";

    JOBS = Gauge "sandhog_jobs" ["tenant", "state"] "Jobs in the store.";
    UNREADABLE = Gauge "sandhog_unreadable_jobs" ["tenant"] "Jobs in the store that this version can't read, as far as that was found out.";
    QUEUE_JOBS = Gauge "sandhog_queue_jobs" ["tenant", "queue", "state"] "Jobs in the store that are not final, by queue; a state is left out if its jobs were too many to be counted by queue.";
    OLDEST_READY = Gauge "sandhog_queue_oldest_ready_age_seconds" ["tenant", "queue"] "Time for which the oldest ready job has waited; 0 if none is ready.";
    WAITING_LIMIT = Gauge "sandhog_waiting_jobs_limit" ["tenant"] "Maximum number of jobs that may wait.";
    WAITING_BYTES_LIMIT = Gauge "sandhog_waiting_payloads_limit_bytes" ["tenant"] "Maximum size of the payloads that may wait.";
    BREAKER_STATE = Gauge "sandhog_breaker_state" ["tenant", "breaker", "state"] "State of a breaker: 1 for the one that it is in.";
    SCHEDULE_FIRED = Counter "sandhog_schedule_fired_total" ["tenant", "schedule"] "Jobs that were enqueued for times of a schedule.";
    SCHEDULE_MISSED = Counter "sandhog_schedule_missed_total" ["tenant", "schedule"] "Times of a schedule for which there was no daemon, or no room.";
    SCHEDULE_SKIPPED = Counter "sandhog_schedule_skipped_total" ["tenant", "schedule"] "Times of a schedule that were skipped as an earlier job wasn't finished.";
    SCHEDULE_LAST_FIRED = Gauge "sandhog_schedule_last_fired_timestamp_seconds" ["tenant", "schedule"] "Latest nominal time of a schedule for which a job was enqueued.";
    SCHEDULE_NEXT = Gauge "sandhog_schedule_next_timestamp_seconds" ["tenant", "schedule"] "Next nominal time of a schedule.";
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = include_str!("../../../../../docs/metrics.md");

    #[test]
    fn the_page_has_each_metric_and_no_others() {
        for Family { name, of, labels, help } in ALL {
            let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
            let row = format!("| `{name}` | {} | {} | {help} |", of.slug(), labels.join(", "));
            assert!(PAGE.contains(&row), "{row}");
        }
        assert_eq!(PAGE.lines().filter(|line| line.starts_with("| `sandhog_")).count(), ALL.len());
    }

    #[test]
    fn names_are_as_scrapers_want_them() {
        for (nth, Family { name, of, help, .. }) in ALL.iter().enumerate() {
            assert!(name.starts_with("sandhog_") && help.ends_with('.'), "{name}");
            assert_eq!(*of == Type::Counter, name.ends_with("_total"), "{name}");
            let reserved = ["_count", "_sum", "_bucket"].iter().any(|end| name.ends_with(end));
            assert!(!reserved && ALL.iter().position(|other| other.name == *name) == Some(nth), "{name}");
        }
    }
}
