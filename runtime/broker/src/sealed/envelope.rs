//! Sealed bytes, which open only with the right key and in the right place.
//!
//! ```text
//! "\0shs"  version 1  length of key id  key id  nonce  ciphertext and tag
//! └────────────── head ───────────────────────┘ 24     XChaCha20-Poly1305
//! ```
//!
//! The head and the [`AssociatedData`] are bound to the ciphertext as associated data. A sealed text is `sandhog-sealed:` and
//! the same in base64.

use std::fmt;

use chacha20poly1305::{AeadInOut, XNonce};
use data_encoding::BASE64_NOPAD;
use sandhog_core::hold::HoldScope;
use sandhog_core::id::{
    BreakerName, GroupKey, JobId, KeyId, Kind, LeaseNo, PluginName, QueueName, ScheduleName, StateKey,
    TenantId, UniqueKey,
};
use sandhog_core::job::Level;
use sandhog_core::keyring::{Keyring, Plain};
use sandhog_core::text;
use sandhog_core::time::Timestamp;

use super::cipher::cipher;

const MAGIC: &[u8; 4] = b"\0shs";
const VERSION: u8 = 1;
const NONCE_BYTES: usize = 24;
const TEXT_MARK: &str = "sandhog-sealed:";

/// The place that something is sealed for. It opens in no other place, and for no other tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AssociatedData<'a> {
    /// The input of a job, for the handler of this kind.
    Payload { job: JobId, kind: &'a Kind },
    /// The input of whichever job holds a unique key, for the handler of this kind: it may come with a later job.
    KeyPayload { key: &'a UniqueKey, kind: &'a Kind },
    /// The output of a job.
    Output { job: JobId },
    /// The message of why a job is where it is.
    Message { job: JobId },
    /// The progress message of a job's run.
    Progress { job: JobId },
    /// A line of a job's log.
    LogLine { job: JobId, at: Timestamp, attempt: u32, level: Level },
    /// The message that is kept of an attempt, of the lease with this number.
    Attempt { job: JobId, lease: LeaseNo },
    /// A value in the state of a plugin.
    State { plugin: &'a PluginName, key: &'a StateKey },
    /// The record of a breaker.
    Breaker { name: &'a BreakerName },
    /// The note of a hold.
    HoldNote { scope: &'a HoldScope },
    /// The note of a group's limit.
    LimitNote { queue: &'a QueueName, group: &'a GroupKey },
    /// The record of a schedule.
    Schedule { name: &'a ScheduleName },
}

impl fmt::Display for AssociatedData<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Payload { job, .. } => write!(f, "the payload of job {job}"),
            Self::KeyPayload { key, .. } => write!(f, "the payload of the job with the unique key `{key}`"),
            Self::Output { job } => write!(f, "the output of job {job}"),
            Self::Message { job } => write!(f, "the message of job {job}"),
            Self::Progress { job } => write!(f, "the progress of job {job}"),
            Self::LogLine { job, .. } => write!(f, "a log line of job {job}"),
            Self::Attempt { job, .. } => write!(f, "the message of an attempt of job {job}"),
            Self::State { plugin, key } => write!(f, "the state `{key}` of plugin {plugin}"),
            Self::Breaker { name } => write!(f, "the breaker {name}"),
            Self::HoldNote { scope } => write!(f, "the note on the hold of {scope}"),
            Self::LimitNote { queue, group } => {
                write!(f, "the note on the limit of group {} of queue {queue}", text::line(group.as_str()))
            }
            Self::Schedule { name } => write!(f, "the schedule {name}"),
        }
    }
}

/// Reason why something can't be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unopened {
    /// The data is stored in plain text.
    #[error(
        "it is stored in plain text, which a tenant with keys refuses; set encryption.plain to \"read\" as long as \
         data from before its keys is about"
    )]
    Plain,
    /// The keyring doesn't have its key, or no longer does.
    #[error("it is sealed with the key `{0}`, which is not among the tenant's keys")]
    NoSuchKey(KeyId),
    /// The keyring has its key, but it doesn't open with it in this place.
    #[error(
        "it is not what was sealed with the key `{0}` for this place: it was changed or moved, or the key was"
    )]
    Forged(KeyId),
    /// The head is malformed.
    #[error("it is cut, or was sealed by another version")]
    Malformed,
}

/// Error: the keyring doesn't have the active key, with which to seal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NoActiveKey;

/// Returns by how many bytes sealing with the active key makes something longer.
pub(super) fn overhead(keys: &Keyring) -> usize {
    const TAG_BYTES: usize = 16;
    head(keys.active()).len() + NONCE_BYTES + TAG_BYTES
}

/// Seals bytes for a place.
pub(super) fn seal(
    keys: &Keyring,
    tenant: &TenantId,
    place: AssociatedData<'_>,
    plain: &[u8],
) -> Result<Vec<u8>, NoActiveKey> {
    let id = keys.active();
    let cipher = cipher(keys, id).ok_or(NoActiveKey)?;
    let nonce: [u8; NONCE_BYTES] = rand::random();
    let mut sealed = head(id);
    let bound = bound(&sealed, tenant, place);
    sealed.extend_from_slice(&nonce);
    let start = sealed.len();
    sealed.extend_from_slice(plain);
    let tag = cipher.encrypt_inout_detached(&nonce.into(), &bound, (&mut sealed[start..]).into());
    sealed.extend_from_slice(&tag.expect("nothing is as long as 256 GiB"));
    Ok(sealed)
}

/// Opens bytes that were sealed for a place.
pub(super) fn open(
    keys: &Keyring,
    tenant: &TenantId,
    place: AssociatedData<'_>,
    stored: Vec<u8>,
) -> Result<Vec<u8>, Unopened> {
    if !stored.starts_with(MAGIC) {
        return match keys.plain() {
            Plain::Read => Ok(stored),
            Plain::Refused => Err(Unopened::Plain),
        };
    }
    let (id, head_length) = read_head(&stored).ok_or(Unopened::Malformed)?;
    let (head, rest) = stored.split_at(head_length);
    let (nonce, sealed) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(Unopened::Malformed)?;
    let Some(cipher) = cipher(keys, &id) else { return Err(Unopened::NoSuchKey(id)) };
    let mut opened = sealed.to_vec();
    let bound = bound(head, tenant, place);
    match cipher.decrypt_in_place(&XNonce::from(*nonce), &bound, &mut opened) {
        Ok(()) => Ok(opened),
        Err(_) => Err(Unopened::Forged(id)),
    }
}

/// Seals a text for a place.
pub(super) fn seal_text(
    keys: &Keyring,
    tenant: &TenantId,
    place: AssociatedData<'_>,
    plain: &str,
) -> Result<String, NoActiveKey> {
    let sealed = seal(keys, tenant, place, plain.as_bytes())?;
    let mut text = TEXT_MARK.to_owned();
    BASE64_NOPAD.encode_append(&sealed, &mut text);
    Ok(text)
}

/// Opens a text that was sealed for a place.
pub(super) fn open_text(
    keys: &Keyring,
    tenant: &TenantId,
    place: AssociatedData<'_>,
    stored: String,
) -> Result<String, Unopened> {
    let Some(sealed) = stored.strip_prefix(TEXT_MARK) else {
        return match keys.plain() {
            Plain::Read => Ok(stored),
            Plain::Refused => Err(Unopened::Plain),
        };
    };
    let sealed = BASE64_NOPAD.decode(sealed.as_bytes()).map_err(|_| Unopened::Malformed)?;
    if !sealed.starts_with(MAGIC) {
        return Err(Unopened::Malformed);
    }
    let opened = open(keys, tenant, place, sealed)?;
    String::from_utf8(opened).map_err(|_| Unopened::Malformed)
}

/// Whether a text bears the mark of a sealed one, `sandhog-sealed:`.
pub(super) fn is_sealed_text(text: &str) -> bool {
    text.starts_with(TEXT_MARK)
}

fn head(id: &KeyId) -> Vec<u8> {
    let id = id.as_str().as_bytes();
    let mut head = MAGIC.to_vec();
    head.push(VERSION);
    head.push(u8::try_from(id.len()).expect("a key id has 63 bytes at most"));
    head.extend_from_slice(id);
    head
}

/// Reads the key's id and the length of the head, in bytes; `None` if it is no head of this version.
fn read_head(sealed: &[u8]) -> Option<(KeyId, usize)> {
    let [version, length, rest @ ..] = sealed.strip_prefix(MAGIC)? else { return None };
    if *version != VERSION {
        return None;
    }
    let id = std::str::from_utf8(rest.get(..usize::from(*length))?).ok()?;
    Some((KeyId::parse(id).ok()?, MAGIC.len() + 2 + id.len()))
}

/// Returns the associated data: each part preceded by its length, so that no two places look alike.
fn bound(head: &[u8], tenant: &TenantId, place: AssociatedData<'_>) -> Vec<u8> {
    let mut bound = Bound(Vec::with_capacity(128));
    bound.part(head);
    bound.part(tenant.as_str().as_bytes());
    match place {
        AssociatedData::Payload { job, kind } => {
            bound.part(b"payload").job(job).part(kind.as_str().as_bytes())
        }
        AssociatedData::KeyPayload { key, kind } => {
            bound.part(b"key payload").part(key.as_str().as_bytes()).part(kind.as_str().as_bytes())
        }
        AssociatedData::Output { job } => bound.part(b"output").job(job),
        AssociatedData::Message { job } => bound.part(b"message").job(job),
        AssociatedData::Progress { job } => bound.part(b"progress").job(job),
        AssociatedData::LogLine { job, at, attempt, level } => bound
            .part(b"log")
            .job(job)
            .part(&at.as_millis().to_be_bytes())
            .part(&attempt.to_be_bytes())
            .part(level.slug().as_bytes()),
        AssociatedData::Attempt { job, lease } => {
            bound.part(b"attempt").job(job).part(&lease.0.to_be_bytes())
        }
        AssociatedData::State { plugin, key } => {
            bound.part(b"state").part(plugin.as_str().as_bytes()).part(key.as_str().as_bytes())
        }
        AssociatedData::HoldNote { scope: HoldScope { queue, kind } } => {
            let (queue, kind) =
                (queue.as_ref().map_or("", QueueName::as_str), kind.as_ref().map_or("", Kind::as_str));
            bound.part(b"hold").part(queue.as_bytes()).part(kind.as_bytes())
        }
        AssociatedData::LimitNote { queue, group } => {
            bound.part(b"limit").part(queue.as_str().as_bytes()).part(group.as_str().as_bytes())
        }
        AssociatedData::Breaker { name } => bound.part(b"breaker").part(name.as_str().as_bytes()),
        AssociatedData::Schedule { name } => bound.part(b"schedule").part(name.as_str().as_bytes()),
    };
    bound.0
}

struct Bound(Vec<u8>);

impl Bound {
    fn part(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
        self.0.extend_from_slice(bytes);
        self
    }

    fn job(&mut self, job: JobId) -> &mut Self {
        self.part(job.to_string().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use sandhog_core::keyring::Key;

    use super::super::cipher::random_key;
    use super::*;

    fn id(name: &str) -> KeyId {
        KeyId::parse(name).expect("a valid id")
    }

    /// A ring with the keys 1 and 2, of which the named one is active. The keys are the same each time.
    fn ring(active: &str, plain: Plain) -> Keyring {
        let key = |digit: &str| Key::parse(&digit.repeat(64)).expect("a key");
        Keyring::new(id(active), BTreeMap::from([(id("1"), key("1")), (id("2"), key("2"))]), plain)
    }

    /// Whose something is and where it belongs, as values.
    #[derive(Debug, Clone, PartialEq, Eq)]
    struct Identity {
        tenant: TenantId,
        what: u8,
        job: JobId,
        kind: Kind,
        at: (Timestamp, u32, Level),
        plugin: PluginName,
        key: StateKey,
    }

    impl Identity {
        fn place(&self) -> AssociatedData<'_> {
            let (job, (at, attempt, level)) = (self.job, self.at);
            match self.what {
                0 => AssociatedData::Payload { job, kind: &self.kind },
                1 => AssociatedData::Output { job },
                2 => AssociatedData::Message { job },
                3 => AssociatedData::Progress { job },
                4 => AssociatedData::LogLine { job, at, attempt, level },
                5 => AssociatedData::Attempt { job, lease: LeaseNo(attempt.into()) },
                _ => AssociatedData::State { plugin: &self.plugin, key: &self.key },
            }
        }
    }

    fn identity() -> impl Strategy<Value = Identity> {
        // Few values each, so that two identities often differ in one thing alone.
        let name = prop_oneof![Just("a"), Just("aa"), Just("b")];
        let level = prop_oneof![Just(Level::Info), Just(Level::Error)];
        let at = (1..3u64, 1..3u32, level).prop_map(|(ms, n, level)| (Timestamp::from_millis(ms), n, level));
        let job = (1..3u128).prop_map(|n| JobId::from_parts(Timestamp::from_millis(1), n));
        (name.clone(), 0..7u8, job, name.clone(), at, name.clone(), name).prop_map(
            |(tenant, what, job, kind, at, plugin, key)| Identity {
                tenant: TenantId::parse(tenant).expect("a valid name"),
                what,
                job,
                kind: Kind::parse(kind).expect("a valid name"),
                at,
                plugin: PluginName::parse(plugin).expect("a valid name"),
                key: StateKey::parse(key).expect("a valid key"),
            },
        )
    }

    proptest! {
        #[test]
        fn what_was_sealed_opens_to_itself_also_when_another_key_is_active(
            whose in identity(), plain: Vec<u8>, text: String,
        ) {
            let sealed = seal(&ring("1", Plain::Refused), &whose.tenant, whose.place(), &plain).expect("a key");
            let opened = open(&ring("2", Plain::Refused), &whose.tenant, whose.place(), sealed);
            prop_assert_eq!(opened, Ok(plain));
            let sealed = seal_text(&ring("1", Plain::Refused), &whose.tenant, whose.place(), &text).expect("a key");
            let opened = open_text(&ring("2", Plain::Refused), &whose.tenant, whose.place(), sealed);
            prop_assert_eq!(opened, Ok(text));
        }

        #[test]
        fn what_was_moved_does_not_open(from in identity(), to in identity(), plain: Vec<u8>) {
            let keys = ring("1", Plain::Read);
            let same = from.tenant == to.tenant && from.place() == to.place();
            let sealed = seal(&keys, &from.tenant, from.place(), &plain).expect("a key");
            let opened = open(&keys, &to.tenant, to.place(), sealed);
            prop_assert_eq!(opened, if same { Ok(plain) } else { Err(Unopened::Forged(id("1"))) });
        }

        #[test]
        fn no_bit_can_be_flipped_and_no_byte_cut(
            whose in identity(), plain: Vec<u8>, at: prop::sample::Index, cut: prop::sample::Index,
        ) {
            let keys = ring("1", Plain::Refused);
            let sealed = seal(&keys, &whose.tenant, whose.place(), &plain).expect("a key");
            let mut flipped = sealed.clone();
            let bit = at.index(8 * sealed.len());
            flipped[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(open(&keys, &whose.tenant, whose.place(), flipped).is_err());
            let mut shorter = sealed.clone();
            shorter.truncate(cut.index(sealed.len()));
            prop_assert!(open(&keys, &whose.tenant, whose.place(), shorter).is_err());
        }

        #[test]
        fn any_bytes_are_refused_without_a_panic(whose in identity(), bytes: Vec<u8>, after_magic: bool) {
            let bytes = if after_magic { [&MAGIC[..], &bytes].concat() } else { bytes };
            prop_assert!(open(&ring("1", Plain::Refused), &whose.tenant, whose.place(), bytes).is_err());
        }

        #[test]
        fn nothing_of_the_plain_text_is_in_what_is_sealed(whose in identity(), plain in "[a-z]{8,40}") {
            let keys = ring("1", Plain::Refused);
            let sealed = seal(&keys, &whose.tenant, whose.place(), plain.as_bytes()).expect("a key");
            prop_assert!(!sealed.windows(plain.len()).any(|window| window == plain.as_bytes()));
            let again = seal(&keys, &whose.tenant, whose.place(), plain.as_bytes()).expect("a key");
            prop_assert_ne!(sealed, again, "the same is never sealed the same");
        }
    }

    #[test]
    fn plain_text_is_read_only_where_it_was_allowed() {
        let (tenant, job) =
            (TenantId::parse("acme").expect("a valid name"), JobId::from_parts(Timestamp::from_millis(1), 1));
        let place = AssociatedData::Output { job };
        assert_eq!(open(&ring("1", Plain::Read), &tenant, place, b"old".to_vec()), Ok(b"old".to_vec()));
        assert_eq!(open(&ring("1", Plain::Refused), &tenant, place, b"old".to_vec()), Err(Unopened::Plain));
        assert_eq!(
            open_text(&ring("1", Plain::Read), &tenant, place, "old".to_owned()),
            Ok("old".to_owned())
        );
        assert_eq!(
            open_text(&ring("1", Plain::Refused), &tenant, place, "old".to_owned()),
            Err(Unopened::Plain)
        );
    }

    #[test]
    fn a_key_that_is_gone_is_named() {
        let (tenant, job) =
            (TenantId::parse("acme").expect("a valid name"), JobId::from_parts(Timestamp::from_millis(1), 1));
        let place = AssociatedData::Output { job };
        let sealed = seal(&ring("1", Plain::Refused), &tenant, place, b"x").expect("a key");
        let other = Keyring::new(id("3"), BTreeMap::from([(id("3"), random_key())]), Plain::Refused);
        assert_eq!(open(&other, &tenant, place, sealed), Err(Unopened::NoSuchKey(id("1"))));
        let none = Keyring::new(id("3"), BTreeMap::new(), Plain::Refused);
        assert_eq!(seal(&none, &tenant, place, b"x"), Err(NoActiveKey));
    }
}
