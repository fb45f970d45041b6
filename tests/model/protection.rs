//! What the protocol rests on, each to be taken away.

/// One of the protections. A broker without it is the reference model with its answers or its input bent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protection {
    /// A settlement's token is compared. Without: whoever settles is taken for the present holder.
    FenceOfSettlements,
    /// A renewal's token is compared, and with it what it brings of progress and log lines. Without: as above.
    FenceOfRenewals,
    /// Effects are written in the step that settles. Without: in a step of their own, just before.
    EffectsWithTheSettlement,
    /// A settlement that is repeated changes nothing. Without: its effects are written once more.
    RepeatsChangeNothing,
    /// Taking back a lease raises the number. Without: a settlement that comes too late looks like one that is repeated.
    NumbersRiseWhenTakenBack,
    /// A producer chooses its job's id. Without: an enqueue that is repeated makes a second job.
    IdsOfProducers,
    /// A job that is leased counts against its plugin's limit. Without: none does.
    LimitsCount,
    /// A lease that was taken back leaves its place. Without: it is never free again.
    PlacesAreLeft,
    /// What is in a lane goes to those who ask for that lane. Without: to whoever asks for the queue.
    LanesAreForAskers,
    /// Whoever asks for jobs hears that the lanes have changed. Without: nothing of it.
    LanesAreTold,
    /// A job that may be leased from now on is news. Without: only if it had not been waiting before.
    FreePlacesAreNews,
}
