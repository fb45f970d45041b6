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
}
