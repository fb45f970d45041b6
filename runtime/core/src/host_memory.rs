//! Upper bound on the host's memory for a run, beside the guest's own memory: every part of it has a bound, and this is
//! their sum.
//!
//! | part | bound |
//! |---|---|
//! | the payload | twice its limit: with the job, and on its way to the guest |
//! | what one call hands over | twice [`Budget::call_max`]: the value, and its copy |
//! | output, effects, log | their limits |
//! | handles | [`HANDLE`] each |
//! | header fields, requests that weren't sent | [`HTTP_MAX`] |
//! | connections, with one request each | [`CONNECTION`] each, if there are hosts that requests may go to |
//! | streams of files, listings of directories | [`FILE_STREAM`] each; [`LISTINGS_MAX`], if there are directories |

use crate::budget::{Budget, Bytes};
use crate::grants::Grants;

/// Minimum of what one call may hand over, however small the budget; and the allowance for what belongs to a value without
/// being in it: names, lengths.
const CALL_MIN: Bytes = Bytes::mib(1);
const CALL_EXTRA: Bytes = Bytes::kib(64);

/// Number of handles that a run may hold whatever it may receive. It may hold one more for each [`BYTES_A_HANDLE`] that it
/// may receive: the JavaScript engine reads bodies in pieces of 8 KiB.
pub const HANDLES_MIN: u64 = 1024;
/// Number of bytes that a run may receive for each handle beyond [`HANDLES_MIN`].
pub const BYTES_A_HANDLE: Bytes = Bytes::kib(4);
/// Maximum number of handles of a run, however much it may receive.
const HANDLES_MOST: u64 = 128 * 1024;
/// Approximate memory of a handle, beside what has a bound of its own.
const HANDLE: Bytes = Bytes(256);

/// Maximum memory of header fields and of requests that weren't sent. What is put into the body of one that was sent goes to
/// the wire, or nowhere.
pub const HTTP_MAX: Bytes = Bytes::mib(8);
/// Maximum memory of a body's pieces that wait to be sent: two, and one on its way.
pub const BODY: Bytes = Bytes::kib(192);
/// Maximum size of a response's head, and of what is read ahead of its body.
pub const HEAD_MAX: Bytes = Bytes::kib(64);
/// Maximum number of connections that a run keeps for further requests.
pub const IDLE_CONNECTIONS_MAX: u64 = 4;
/// Maximum memory of a connection: the pieces of a body, what was read ahead, and what TLS holds in either direction.
const CONNECTION: Bytes = Bytes(BODY.0 + HEAD_MAX.0 + (64 << 10));

/// Maximum number of file streams of a run; each may hold a piece of [`FILE_STREAM`].
pub const FILE_STREAMS_MAX: u64 = 256;
/// Maximum size of the piece that a file stream holds.
pub const FILE_STREAM: Bytes = Bytes::kib(64);
/// Maximum memory of the entries of all directory listings of a run together.
pub const LISTINGS_MAX: Bytes = Bytes::mib(16);

impl Budget {
    /// Returns the maximum that one host call, or the return of the handler, may hand over to the host.
    #[must_use]
    pub fn call_max(&self) -> Bytes {
        Bytes(self.output.max(self.effects).max(CALL_MIN).0.saturating_add(CALL_EXTRA.0))
    }

    /// Returns the maximum number of handles that a run may hold: of streams, timers, requests and the like.
    #[must_use]
    pub fn handles_max(&self) -> u64 {
        HANDLES_MIN.saturating_add(self.http_bytes.0 / BYTES_A_HANDLE.0).min(HANDLES_MOST)
    }

    /// Returns the upper bound on the host's memory for a run with a payload of that size and with these grants. The sum
    /// saturates.
    #[must_use]
    pub fn host_memory(&self, payload: Bytes, grants: &Grants) -> Bytes {
        let times = |each: Bytes, count: u64| each.0.saturating_mul(count);
        let connections = self.http_connections.saturating_add(IDLE_CONNECTIONS_MAX);
        let parts = [
            times(payload, 2),
            times(self.call_max(), 2),
            self.output.0,
            self.effects.0,
            self.log.0,
            times(HANDLE, self.handles_max()),
            HTTP_MAX.0,
            if grants.http.is_empty() { 0 } else { times(CONNECTION, connections) },
            if grants.dirs.is_empty() { 0 } else { times(FILE_STREAM, FILE_STREAMS_MAX) + LISTINGS_MAX.0 },
        ];
        Bytes(parts.into_iter().fold(0, u64::saturating_add))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grants::{Access, DirGrant, HttpGrant, Private};
    use proptest::prelude::*;

    fn with_http() -> Grants {
        let to = "api.acme.example:443".parse().expect("a target");
        Grants { http: vec![HttpGrant { to, private: Private::Refuse }], ..Grants::default() }
    }

    fn with_dirs() -> Grants {
        let dir =
            DirGrant { host: "/srv".into(), guest: "/srv".into(), access: Access::ReadWrite, quota: None };
        Grants { dirs: vec![dir], ..Grants::default() }
    }

    /// The numbers of the page on limits.
    #[test]
    fn by_default_it_is_what_the_page_says() {
        let of = |grants: &Grants| Budget::DEFAULT.host_memory(Bytes::kib(10), grants);
        let kib = 2 * 10 + 2 * (1024 + 64) + 1024 + 1024 + 64 + 9216 / 4 + 8 * 1024;
        assert_eq!(of(&Grants::default()), Bytes::kib(kib));
        assert_eq!(of(&with_http()), Bytes::kib(kib + 12 * 320));
        assert_eq!(of(&with_dirs()), Bytes::kib(kib + 32 * 1024));
    }

    #[test]
    fn who_may_receive_more_may_hold_more_handles() {
        let handles = |bytes| Budget { http_bytes: bytes, ..Budget::DEFAULT }.handles_max();
        assert_eq!(handles(Bytes(0)), 1024);
        assert_eq!(handles(Bytes::mib(32)), 1024 + 8192);
        assert_eq!(handles(Bytes(u64::MAX)), 128 * 1024);
    }

    proptest! {
        /// Whoever may have more of something has a host that may hold more.
        #[test]
        fn a_wider_limit_is_more_and_never_overflows(
            [payload, output, effects, log] in any::<[u64; 4]>(), connections: u64, bytes: u64, more in 1_u64..1 << 40,
        ) {
            let budget = Budget {
                output: Bytes(output),
                effects: Bytes(effects),
                log: Bytes(log),
                http_connections: connections,
                http_bytes: Bytes(bytes),
                ..Budget::DEFAULT
            };
            let grants = with_http();
            let now = budget.host_memory(Bytes(payload), &grants);
            let wider = |limit: &Bytes| Bytes(limit.0.saturating_add(more));
            for budget in [
                Budget { output: wider(&budget.output), ..budget },
                Budget { effects: wider(&budget.effects), ..budget },
                Budget { log: wider(&budget.log), ..budget },
            ] {
                let then = budget.host_memory(Bytes(payload), &grants);
                prop_assert!(then > now || now == Bytes(u64::MAX), "{:?}", budget);
            }
            prop_assert!(budget.host_memory(wider(&Bytes(payload)), &grants) >= now);
        }
    }
}
