//! Routes of a daemon's API: methods, paths, and the role that each takes. `docs/api.md` describes them for people.

use sandhog_core::access::Role;

/// A route of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Method, in capitals.
    pub method: &'static str,
    /// Path; `{id}` stands for a part that the caller chooses.
    pub path: &'static str,
    /// Role that it takes at least. `None` if it is open to all, with a token or without.
    pub role: Option<Role>,
}

impl Route {
    /// Whether it changes something, so that the audit log has a line for each request: anything but looking and enqueuing.
    #[must_use]
    pub fn is_audited(&self) -> bool {
        self.role > Some(Role::Produce) && self.method != "GET"
    }

    /// Returns the path with `part` in place of the only part that the caller chooses.
    #[must_use]
    pub fn with(&self, part: impl std::fmt::Display) -> String {
        match (self.path.find('{'), self.path.find('}')) {
            (Some(start), Some(end)) => format!("{}{part}{}", &self.path[..start], &self.path[end + 1..]),
            _ => self.path.to_owned(),
        }
    }
}

macro_rules! routes {
    ($($(#[doc = $doc:literal])* $name:ident = $method:literal $path:literal, $role:expr;)*) => {
        $($(#[doc = $doc])* pub const $name: Route = Route { method: $method, path: $path, role: $role };)*

        /// All routes.
        pub const ALL: &[Route] = &[$($name),*];
    };
}

routes! {
    /// Whether the process answers at all.
    LIVE = "GET" "/livez", None;
    /// Whether requests and jobs are served as they should be. Answers with [`Readiness`](crate::Readiness).
    READY = "GET" "/readyz", None;
    /// Begins a browser's session, as a [`SessionAsk`](crate::SessionAsk) says.
    BEGIN_SESSION = "POST" "/v1/session", None;
    /// Ends a browser's session.
    END_SESSION = "DELETE" "/v1/session", None;
    /// The caller, as a [`MeDocument`](crate::MeDocument).
    ME = "GET" "/v1/me", Some(Role::Observe);
    /// Metrics, in the text format of Prometheus.
    METRICS = "GET" "/metrics", Some(Role::Observe);
    /// Enqueues a job, as a [`JobAsk`](crate::JobAsk) says. Answers with an [`EnqueuedDocument`](crate::EnqueuedDocument).
    ENQUEUE = "POST" "/v1/jobs", Some(Role::Produce);
    /// Enqueues many jobs, as a [`JobsAsk`](crate::JobsAsk) says. Answers with an [`EnqueuedDocument`](crate::EnqueuedDocument).
    ENQUEUE_MANY = "POST" "/v1/jobs/batch", Some(Role::Produce);
    /// Jobs, as a [`PageDocument`](crate::PageDocument).
    JOBS = "GET" "/v1/jobs", Some(Role::Observe);
    /// One job, as a [`JobDocument`](crate::JobDocument).
    JOB = "GET" "/v1/jobs/{id}", Some(Role::Observe);
    /// Edits a job, as an [`EditAsk`](crate::EditAsk) says. Answers with a [`DoneDocument`](crate::DoneDocument).
    EDIT = "PATCH" "/v1/jobs/{id}", Some(Role::Edit);
    /// Cancels a job. Answers with a [`DoneDocument`](crate::DoneDocument).
    CANCEL = "POST" "/v1/jobs/{id}/cancel", Some(Role::Operate);
    /// Puts a dead job back. Answers with a [`DoneDocument`](crate::DoneDocument).
    REDRIVE = "POST" "/v1/jobs/{id}/redrive", Some(Role::Operate);
    /// Makes a scheduled job ready. Answers with a [`DoneDocument`](crate::DoneDocument).
    RUN_NOW = "POST" "/v1/jobs/{id}/run-now", Some(Role::Operate);
    /// Removes a final job. Answers with a [`DoneDocument`](crate::DoneDocument).
    REMOVE = "DELETE" "/v1/jobs/{id}", Some(Role::Operate);
    /// Acts on many jobs, as a [`BulkAsk`](crate::BulkAsk) says. Answers with a [`BulkDocument`](crate::BulkDocument).
    BULK = "POST" "/v1/jobs/bulk", Some(Role::Operate);
    /// Numbers of jobs by tenant and state, as an [`AllCountsDocument`](crate::AllCountsDocument).
    COUNTS = "GET" "/v1/counts", Some(Role::Observe);
    /// Queues with the numbers of their jobs, as a [`QueuesDocument`](crate::QueuesDocument).
    QUEUES = "GET" "/v1/queues", Some(Role::Observe);
    /// Dead jobs in groups, as a [`FailuresDocument`](crate::FailuresDocument).
    FAILURES = "GET" "/v1/failures", Some(Role::Observe);
    /// Holds, as a [`HoldsDocument`](crate::HoldsDocument).
    HOLDS = "GET" "/v1/holds", Some(Role::Observe);
    /// Holds jobs back, as a [`HoldAsk`](crate::HoldAsk) says. Answers with a [`PausedDocument`](crate::PausedDocument).
    HOLD = "POST" "/v1/holds", Some(Role::Operate);
    /// Ends a hold. Answers with a [`ResumedDocument`](crate::ResumedDocument).
    LIFT = "DELETE" "/v1/holds", Some(Role::Operate);
    /// Limits and their use, as a [`LimitsDocument`](crate::LimitsDocument).
    LIMITS = "GET" "/v1/limits", Some(Role::Observe);
    /// Sets the limit of a single group, as a [`LimitAsk`](crate::LimitAsk) says. Answers with the
    /// [`LimitsDocument`](crate::LimitsDocument) of this one.
    SET_LIMIT = "POST" "/v1/limits", Some(Role::Operate);
    /// Switches the limit of a single group on or off, as a [`SwitchLimitAsk`](crate::SwitchLimitAsk) says. Answers as setting does.
    SWITCH_LIMIT = "PATCH" "/v1/limits", Some(Role::Operate);
    /// Removes the limit of a single group. Answers as setting does.
    UNSET_LIMIT = "DELETE" "/v1/limits", Some(Role::Operate);
    /// Circuit breakers, as a [`BreakersDocument`](crate::BreakersDocument).
    BREAKERS = "GET" "/v1/breakers", Some(Role::Observe);
    /// Opens or closes a breaker by hand, as a [`ForceBreakerAsk`](crate::ForceBreakerAsk) says. Answers with the
    /// [`BreakersDocument`](crate::BreakersDocument) of this one.
    FORCE_BREAKER = "POST" "/v1/breakers/force", Some(Role::Operate);
    /// Forgets all that is known of a breaker, as a [`ResetBreakerAsk`](crate::ResetBreakerAsk) says. Answers with the
    /// [`BreakersDocument`](crate::BreakersDocument) of this one.
    RESET_BREAKER = "POST" "/v1/breakers/reset", Some(Role::Operate);
    /// Groups that are held, as a [`HeldGroupsDocument`](crate::HeldGroupsDocument).
    GROUPS = "GET" "/v1/groups", Some(Role::Observe);
    /// Lets a group go on, as a [`ReleaseAsk`](crate::ReleaseAsk) says. Answers with a [`ReleasedDocument`](crate::ReleasedDocument).
    RELEASE = "POST" "/v1/groups/release", Some(Role::Operate);
    /// Schedules, as a [`SchedulesDocument`](crate::SchedulesDocument).
    SCHEDULES = "GET" "/v1/schedules", Some(Role::Observe);
    /// Adds a schedule, as a [`ScheduleAsk`](crate::ScheduleAsk) says. Answers with a
    /// [`ScheduleChangedDocument`](crate::ScheduleChangedDocument).
    ADD_SCHEDULE = "POST" "/v1/schedules", Some(Role::Edit);
    /// One schedule, as a [`ScheduleDocument`](crate::ScheduleDocument).
    SCHEDULE = "GET" "/v1/schedules/{name}", Some(Role::Observe);
    /// Next times of a schedule, as a [`NextDocument`](crate::NextDocument).
    SCHEDULE_NEXT = "GET" "/v1/schedules/{name}/next", Some(Role::Observe);
    /// Pauses a schedule, as a [`PauseScheduleAsk`](crate::PauseScheduleAsk) says. Answers with a
    /// [`ScheduleChangedDocument`](crate::ScheduleChangedDocument).
    PAUSE_SCHEDULE = "POST" "/v1/schedules/{name}/pause", Some(Role::Operate);
    /// Resumes a schedule. Answers with a [`ScheduleChangedDocument`](crate::ScheduleChangedDocument).
    RESUME_SCHEDULE = "POST" "/v1/schedules/{name}/resume", Some(Role::Operate);
    /// Enqueues a job of a schedule now. Answers with a [`ScheduleChangedDocument`](crate::ScheduleChangedDocument).
    RUN_SCHEDULE = "POST" "/v1/schedules/{name}/run", Some(Role::Operate);
    /// Enqueues jobs of past times, as a [`BackfillAsk`](crate::BackfillAsk) says. Answers with a
    /// [`ScheduleChangedDocument`](crate::ScheduleChangedDocument).
    BACKFILL = "POST" "/v1/schedules/{name}/backfill", Some(Role::Operate);
    /// Removes a schedule. Answers with a [`ScheduleChangedDocument`](crate::ScheduleChangedDocument).
    REMOVE_SCHEDULE = "DELETE" "/v1/schedules/{name}", Some(Role::Edit);
    /// Stores a flow, as a [`FlowAsk`](crate::FlowAsk) says. Answers with a [`StoredFlowDocument`](crate::StoredFlowDocument).
    STORE_FLOW = "POST" "/v1/flows", Some(Role::Produce);
    /// A flow, as a [`FlowDocument`](crate::FlowDocument).
    FLOW = "GET" "/v1/flows/{id}", Some(Role::Observe);
    /// Cancels all jobs of a flow. Answers with an [`ActedDocument`](crate::ActedDocument).
    CANCEL_FLOW = "POST" "/v1/flows/{id}/cancel", Some(Role::Operate);
    /// Puts all dead jobs of a flow back. Answers with an [`ActedDocument`](crate::ActedDocument).
    REDRIVE_FLOW = "POST" "/v1/flows/{id}/redrive", Some(Role::Operate);
    /// Events of jobs, as server-sent events, or as an [`EventsDocument`](crate::EventsDocument).
    EVENTS = "GET" "/v1/events", Some(Role::Observe);
    /// Tenants, as a [`TenantsDocument`](crate::TenantsDocument).
    TENANTS = "GET" "/v1/tenants", Some(Role::Observe);
    /// Usage of tenants, as a [`UsageReport`](crate::UsageReport).
    USAGE = "GET" "/v1/usage", Some(Role::Observe);
    /// Has the configuration read again. Answers with [`Reloaded`](crate::Reloaded).
    RELOAD = "POST" "/v1/reload", Some(Role::Admin);
    /// Puts an earlier revision into force again, as a [`RollBack`](crate::RollBack) says. Answers with the
    /// [`DeployEvent`](crate::DeployEvent).
    ROLLBACK = "POST" "/v1/rollback", Some(Role::Deploy);
    /// Daemons that have told of themselves lately, as a [`DaemonsDocument`](crate::DaemonsDocument).
    DAEMONS = "GET" "/v1/daemons", Some(Role::Observe);
    /// The status of all plugins, as [`PluginStatuses`](crate::PluginStatuses).
    PLUGINS = "GET" "/v1/plugins", Some(Role::Observe);
    /// The latest events of deploys, as [`DeployEvents`](crate::DeployEvents).
    DEPLOY_EVENTS = "GET" "/v1/deploy-events", Some(Role::Observe);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::ALL;
    use crate::Slug;

    const PAGE: &str = include_str!("../../../docs/api.md");

    #[test]
    fn the_page_has_each_route_and_each_kind_of_problem() {
        for route in ALL {
            let role = route.role.map_or_else(|| "–".to_owned(), |role| format!("`{role}`"));
            let row = format!("| `{} {}` | {role} |", route.method, route.path);
            assert!(PAGE.contains(&row), "{row}");
        }
        for slug in Slug::ALL {
            let row = format!("| `{slug}` | {} | {} |", slug.status(), slug.title());
            assert!(PAGE.contains(&row), "{row}");
        }
        let method = |line: &&str| {
            ["GET", "POST", "PUT", "PATCH", "DELETE"].iter().any(|m| line.starts_with(&format!("| `{m} ")))
        };
        assert_eq!(PAGE.lines().filter(method).count(), ALL.len(), "and no others");
        let slugs = PAGE.split("## Problems").nth(1).unwrap_or_default();
        assert_eq!(slugs.lines().filter(|line| line.starts_with("| `")).count(), Slug::ALL.len() + 1);
    }

    #[test]
    fn each_route_is_there_once_and_a_part_is_put_in_its_place() {
        let all: BTreeSet<_> = ALL.iter().map(|route| (route.method, route.path)).collect();
        assert_eq!(all.len(), ALL.len());
        assert_eq!(super::RELOAD.with("x"), "/v1/reload");
    }
}
