//! API of a running daemon: the types of requests and answers, and the client.
//!
//! The daemon answers with these types, the command line prints them with `--json`, and programs written against either
//! read them. So there is one shape of each, and it is in here. A [`Problem`] says why something wasn't done.

mod act;
mod asks;
mod breakers;
mod client;
mod daemons;
mod definitions;
mod deploys;
mod events;
mod failures;
mod flows;
mod groups;
mod holds;
mod jobs;
mod limits;
mod me;
mod network;
mod problem;
mod queues;
mod read;
pub mod route;
mod schedules;
mod socket;
mod tenants;
mod time;
mod usage;

pub use act::{BulkDocument, DoneDocument, DonesDocument, WouldDocument};
pub use asks::{
    BackfillAsk, BulkAsk, EditAsk, ForceBreakerAsk, HoldAsk, JobAsk, JobsAsk, LimitAsk, PauseScheduleAsk,
    ReleaseAsk, ResetBreakerAsk, SwitchLimitAsk,
};
pub use breakers::{BreakerDocument, BreakersDocument};
pub use client::{Client, ClientError, Request};
pub use daemons::{DaemonDocument, DaemonsDocument, ServedQueueDocument};
pub use definitions::{AfterAsk, EdgeAsk, FlowAsk, FlowJobAsk, ScheduleAsk};
pub use deploys::{
    CanaryStatus, DeployEvent, DeployEventKind, DeployEvents, PluginState, PluginStatus, PluginStatuses,
    Readiness, ReloadOutcome, Reloaded, RollBack, SideStatus,
};
pub use events::{EventDocument, EventsDocument, GapDocument, PlaceDocument};
pub use failures::{FailureDocument, FailuresDocument};
pub use flows::{
    ActedDocument, AfterDocument, FlowDocument, FlowJobDocument, NamedDocument, StoredFlowDocument,
};
pub use groups::{HeldDocument, HeldGroupsDocument, ReleasedDocument};
pub use holds::{HoldDocument, HoldsDocument, PausedDocument, ResumedDocument};
pub use jobs::{
    AllCountsDocument, Answer, AnswerDocument, AttemptDocument, AwaitedDocument, Content, CountsDocument,
    EnqueuedDocument, JobDocument, LimitDocument, LogDocument, PageDocument, Payloads, ProgressDocument,
    StateCounts, UnreadDocument, UsageDocument, WaitDocument, told,
};
pub use limits::{
    GroupLimitDocument, LimitsDocument, PluginLimitDocument, QueueLimitDocument, RateLimitDocument,
};
pub use me::{MeDocument, ServerDocument, SessionAsk};
pub use network::{AddressError, EventStream, Identity, Network, StreamItem, Token, Trust};
pub use problem::{PROBLEM_JSON, Problem, Slug};
pub use queues::{QueueDocument, QueueJobsDocument, QueuesDocument};
pub use read::{JobRead, Unreadable};
pub use schedules::{
    NEXT_SHOWN, NextDocument, PastDocument, PauseDocument, ScheduleChangedDocument, ScheduleDocument,
    SchedulesDocument, TimeDocument, UnreadScheduleDocument,
};
pub use socket::{SocketAddress, socket_path};
pub use tenants::{TenantDocument, TenantsDocument};
pub use time::{Time, parse_time};
pub use usage::{By as UsageBy, Report as UsageReport, Row as UsageRow, parse_day, show_day};
