//! Types that single TOML values are read as.

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use sandhog_core::access::Role;
use sandhog_core::budget::{Bytes, Fuel};
use sandhog_core::grants::{Access, HttpTarget, InvalidRange, InvalidTarget, Private, Range};
use sandhog_core::group::OnDead;
use sandhog_core::id::{
    DownstreamName, FailureCode, InvalidName, KeyId, Kind, PluginName, QueueName, Revision, TenantId,
};
use sandhog_core::job::Priority;
use sandhog_core::keyring::Plain;
use sandhog_core::quota::OnEmpty;
use sandhog_core::rate::Rate;
use sandhog_core::reason::Reason;
use sandhog_core::redis::Address;
use sandhog_core::retry::{Jitter, OnExhausted, OnLimit, is_retriable};
use sandhog_core::schedule::{Cron, InvalidCron, Overlap, UnknownZone, Zone};
use toml::de::DeValue;

use super::MissingGrants;
use super::daemon::Order;
use super::fields::nearest;
use super::units::{InvalidUnit, parse_rate, parse_size, parse_time};
use crate::signer::{InvalidSigner, Signer};

/// Type that a single value can be read as.
pub(super) trait Read: Sized {
    /// Reads the value.
    fn read(value: &DeValue<'_>) -> Result<Self, Refusal>;
}

/// Reason why a value can't be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) problem: String,
    pub(super) rule: String,
    pub(super) help: Option<String>,
}

/// Growth of the waits between attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BackoffType {
    Fixed,
    Linear,
    Exponential,
}

/// Treatment of a job whose attempt failed for a reason that has a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RuleAction {
    Retry,
    Bury,
}

/// A reason for which an attempt may fail and another be made.
pub(super) struct Retriable(pub(super) Reason);

/// Value that can't be zero.
pub(super) struct Positive<T>(pub(super) T);

/// Describes a value for a message.
pub(super) fn found(value: &DeValue<'_>) -> String {
    const SHOWN: usize = 60;
    match value {
        DeValue::String(text) => {
            let shown: String = text.chars().filter(|c| !c.is_control()).take(SHOWN).collect();
            format!("\"{shown}\"")
        }
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

fn refusal(problem: impl Into<String>, rule: impl Into<String>) -> Refusal {
    Refusal { problem: problem.into(), rule: rule.into(), help: None }
}

impl From<InvalidUnit> for Refusal {
    fn from(invalid: InvalidUnit) -> Self {
        let help = invalid.meant.map(|meant| format!("did you mean \"{meant}\"?"));
        let problem = format!("\"{}\" is not a {}", invalid.value, invalid.what);
        Self { problem, rule: invalid.rule.to_owned(), help }
    }
}

impl From<InvalidName> for Refusal {
    fn from(invalid: InvalidName) -> Self {
        let lower = invalid.value.to_ascii_lowercase();
        let problem = format!("\"{}\" is not a valid {}", invalid.value, invalid.what);
        let help =
            (lower != invalid.value && !lower.contains(' ')).then(|| format!("did you mean \"{lower}\"?"));
        Self { problem, rule: invalid.rule.to_owned(), help }
    }
}

impl Read for String {
    fn read(value: &DeValue<'_>) -> Result<Self, Refusal> {
        match value {
            DeValue::String(text) if text.is_empty() => Err(refusal("it is empty", "a text of some length")),
            DeValue::String(text) => Ok(text.clone().into_owned()),
            other => {
                let help = matches!(other, DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_))
                    .then(|| format!("did you mean \"{}\"?", found(other)));
                Err(Refusal { help, ..refusal(format!("{} is not a text", found(other)), "text in quotes") })
            }
        }
    }
}

impl Read for PathBuf {
    fn read(value: &DeValue<'_>) -> Result<Self, Refusal> {
        String::read(value).map(Self::from)
    }
}

impl Read for Address {
    fn read(value: &DeValue<'_>) -> Result<Self, Refusal> {
        // Text that is not an address may hold a password, so it isn't shown.
        let refuse =
            || refusal("it is not the address of a node", "host and port, such as \"10.0.0.1:6379\"");
        Self::parse(&String::read(value)?).ok_or_else(refuse)
    }
}

impl Read for SocketAddr {
    fn read(value: &DeValue<'_>) -> Result<Self, Refusal> {
        const RULE: &str = "an address and a port, such as \"127.0.0.1:7070\" or \"[::]:7070\"";
        let text = String::read(value)?;
        text.parse().map_err(|_| refusal(format!("\"{text}\" is not an address with a port"), RULE))
    }
}

impl Read for Role {
    fn read(value: &DeValue<'_>) -> Result<Self, Refusal> {
        let text = String::read(value)?;
        let names = Self::ALL.map(Self::slug);
        Self::from_slug(&text).ok_or_else(|| no_choice(&found(value), &text, &names))
    }
}

impl Read for u64 {
    fn read(value: &DeValue<'_>) -> Result<Self, Refusal> {
        const RULE: &str = "a whole number from 0 to 9223372036854775807";
        let refuse = || refusal(format!("{} is not a whole number", found(value)), RULE);
        match value {
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .ok()
                .and_then(|number| Self::try_from(number).ok())
                .ok_or_else(|| refusal(format!("{number} is out of range"), RULE)),
            DeValue::String(text) if text.parse::<i64>().is_ok() => {
                Err(Refusal { help: Some(format!("write it without quotes: {text}")), ..refuse() })
            }
            _ => Err(refuse()),
        }
    }
}

impl Read for u32 {
    fn read(value: &DeValue<'_>) -> Result<Self, Refusal> {
        let number = u64::read(value)?;
        Self::try_from(number)
            .map_err(|_| refusal(format!("{number} is out of range"), "a whole number from 0 to 4294967295"))
    }
}

impl Read for bool {
    fn read(value: &DeValue<'_>) -> Result<Self, Refusal> {
        match value {
            DeValue::Boolean(value) => Ok(*value),
            other => Err(refusal(format!("{} is not true or false", found(other)), "true or false")),
        }
    }
}

impl Read for f64 {
    fn read(value: &DeValue<'_>) -> Result<Self, Refusal> {
        let number = match value {
            DeValue::Integer(number) => {
                i32::from_str_radix(number.as_str(), number.radix()).ok().map(Self::from)
            }
            DeValue::Float(number) => number.as_str().parse().ok(),
            _ => None,
        };
        number.ok_or_else(|| refusal(format!("{} is not a number", found(value)), "a number, such as 2.0"))
    }
}

impl Read for Bytes {
    fn read(value: &DeValue<'_>) -> Result<Self, Refusal> {
        match value {
            DeValue::String(text) => Ok(parse_size(text)?),
            DeValue::Integer(number) => {
                let meant = number.as_str().parse().map(|bytes| format!("did you mean \"{}\"?", Self(bytes)));
                let bare = Refusal::from(InvalidUnit { value: number.to_string(), ..no_size() });
                Err(Refusal { problem: format!("{number} has no unit"), help: meant.ok(), ..bare })
            }
            other => Err(Refusal { problem: format!("{} is not a size", found(other)), ..no_size().into() }),
        }
    }
}

impl Read for Duration {
    fn read(value: &DeValue<'_>) -> Result<Self, Refusal> {
        match value {
            DeValue::String(text) => Ok(parse_time(text)?),
            DeValue::Integer(number) => {
                let help = Some(format!("did you mean \"{number}s\"?"));
                Err(Refusal { problem: format!("{number} has no unit"), help, ..no_time().into() })
            }
            other => Err(Refusal { problem: format!("{} is not a time", found(other)), ..no_time().into() }),
        }
    }
}

impl Read for Rate {
    fn read(value: &DeValue<'_>) -> Result<Self, Refusal> {
        Ok(parse_rate(&String::read(value)?)?)
    }
}

/// Returns the refusal of the empty text, for its rule.
fn no_size() -> InvalidUnit {
    parse_size("").expect_err("an empty text is no size")
}

fn no_time() -> InvalidUnit {
    parse_time("").expect_err("an empty text is no time")
}

macro_rules! positive {
    ($($type:ty: $zero:expr, $example:literal;)*) => {$(
        impl Read for Positive<$type> {
            fn read(value: &DeValue<'_>) -> Result<Self, Refusal> {
                let read = <$type>::read(value)?;
                if read == $zero {
                    return Err(refusal("it can't be zero", concat!("more than zero, such as ", $example)));
                }
                Ok(Self(read))
            }
        }
    )*};
}

positive! {
    Duration: Duration::ZERO, "\"30s\"";
    Bytes: Bytes(0), "\"64MiB\"";
    u64: 0, "1000";
    u32: 0, "1000";
}

impl Read for Positive<Fuel> {
    fn read(value: &DeValue<'_>) -> Result<Self, Refusal> {
        let Positive(fuel) = Positive::<u64>::read(value)?;
        Ok(Self(Fuel(fuel)))
    }
}

impl Read for NonZeroU32 {
    fn read(value: &DeValue<'_>) -> Result<Self, Refusal> {
        Self::new(u32::read(value)?).ok_or_else(|| refusal("it can't be zero", "a whole number from 1"))
    }
}

impl Read for NonZeroUsize {
    fn read(value: &DeValue<'_>) -> Result<Self, Refusal> {
        let number = NonZeroU32::read(value)?;
        Self::try_from(number).map_err(|_| refusal(format!("{number} is out of range"), "less"))
    }
}

macro_rules! names {
    ($($type:ty)*) => {$(
        impl Read for $type {
            fn read(value: &DeValue<'_>) -> Result<Self, Refusal> {
                Ok(Self::parse(&String::read(value)?)?)
            }
        }
    )*};
}

names!(DownstreamName TenantId PluginName QueueName Kind Revision KeyId FailureCode);

impl Read for Priority {
    fn read(value: &DeValue<'_>) -> Result<Self, Refusal> {
        let number = u64::read(value)?;
        let refuse = |_| refusal(format!("{number} is out of range"), "a whole number from 0 to 255");
        u8::try_from(number).map(Self).map_err(refuse)
    }
}

impl Read for Cron {
    fn read(value: &DeValue<'_>) -> Result<Self, Refusal> {
        let parsed = Self::parse(&String::read(value)?);
        parsed.map_err(|InvalidCron { text, why }| {
            let rule = "five fields (minute, hour, day of the month, month, day of the week), or six with seconds first";
            refusal(format!("\"{text}\" is not a cron expression: {why}"), rule)
        })
    }
}

impl Read for Zone {
    fn read(value: &DeValue<'_>) -> Result<Self, Refusal> {
        let parsed = Self::parse(&String::read(value)?);
        parsed.map_err(|UnknownZone(name)| {
            let rule = "a name of the IANA database, such as \"Europe/Berlin\" or \"UTC\"";
            refusal(format!("\"{name}\" is not a time zone"), rule)
        })
    }
}

impl Read for Signer {
    fn read(value: &DeValue<'_>) -> Result<Self, Refusal> {
        let parsed = String::read(value)?.parse();
        parsed.map_err(|invalid: InvalidSigner| {
            let rule = "a public key, such as `sandhog plugin key` prints it: \"ed25519:…\"";
            refusal(format!("{} is {invalid}", found(value)), rule)
        })
    }
}

impl Read for HttpTarget {
    fn read(value: &DeValue<'_>) -> Result<Self, Refusal> {
        let text = String::read(value)?;
        text.parse().map_err(|invalid: InvalidTarget| Refusal {
            problem: format!("\"{text}\" is no host and port: {}", invalid.problem),
            rule: "host:port, such as \"api.acme.example:443\", or \"*.acme.example:443\" for one label"
                .to_owned(),
            help: invalid.meant.map(|meant| format!("did you mean \"{meant}\"?")),
        })
    }
}

impl Read for Range {
    fn read(value: &DeValue<'_>) -> Result<Self, Refusal> {
        let text = String::read(value)?;
        text.parse().map_err(|invalid: InvalidRange| Refusal {
            problem: format!("{} is no range of addresses: {invalid}", found(value)),
            rule: "an address and the length of its prefix, such as \"10.1.0.0/16\" or \"fd12::/16\""
                .to_owned(),
            help: invalid.meant.map(|meant| format!("did you mean \"{meant}\"?")),
        })
    }
}

macro_rules! choices {
    ($($type:ty { $($text:literal => $value:expr),* })*) => {$(
        impl Read for $type {
            fn read(value: &DeValue<'_>) -> Result<Self, Refusal> {
                let text = String::read(value)?;
                match text.as_str() {
                    $($text => Ok($value),)*
                    _ => Err(no_choice(&found(value), &text, &[$($text),*])),
                }
            }
        }
    )*};
}

choices! {
    MissingGrants { "allow" => MissingGrants::Allow, "refuse" => MissingGrants::Refuse }
    Private { "refuse" => Private::Refuse, "allow" => Private::Allow }
    Access { "read" => Access::Read, "read-write" => Access::ReadWrite }
    Plain { "refuse" => Plain::Refused, "read" => Plain::Read }
    Jitter {
        "full" => Jitter::Full, "equal" => Jitter::Equal, "decorrelated" => Jitter::Decorrelated, "none" => Jitter::None
    }
    BackoffType {
        "fixed" => BackoffType::Fixed, "linear" => BackoffType::Linear, "exponential" => BackoffType::Exponential
    }
    RuleAction { "retry" => RuleAction::Retry, "bury" => RuleAction::Bury }
    Overlap {
        "skip" => Overlap::Skip,
        "queue-one" => Overlap::QueueOne,
        "queue-all" => Overlap::QueueAll,
        "cancel-other" => Overlap::CancelOther,
        "allow" => Overlap::Allow
    }
    OnLimit { "bury" => OnLimit::Bury, "retry" => OnLimit::Retry }
    OnExhausted { "dead" => OnExhausted::Bury, "pause" => OnExhausted::Pause }
    Order { "any" => Order::Any, "fair" => Order::Fair, "strict" => Order::Strict }
    OnDead { "hold" => OnDead::Hold, "skip" => OnDead::Skip, "cancel-rest" => OnDead::CancelRest }
    OnEmpty { "hold" => OnEmpty::Hold, "reject" => OnEmpty::Reject, "idle" => OnEmpty::Idle }
}

impl Read for Retriable {
    fn read(value: &DeValue<'_>) -> Result<Self, Refusal> {
        let text = String::read(value)?;
        let reason = Reason::from_slug(&text).filter(|reason| is_retriable(*reason));
        reason.map(Self).ok_or_else(|| {
            let all = Reason::ALL.iter().filter(|reason| is_retriable(**reason));
            no_choice(&found(value), &text, &all.map(|reason| reason.slug()).collect::<Vec<_>>())
        })
    }
}

/// Creates the refusal of a text that is none of the choices.
pub(super) fn no_choice(found: &str, text: &str, choices: &[&str]) -> Refusal {
    let rule = format!(
        "one of {}",
        choices.iter().map(|choice| format!("\"{choice}\"")).collect::<Vec<_>>().join(", ")
    );
    let help = nearest(text, choices.iter().copied()).map(|meant| format!("did you mean \"{meant}\"?"));
    Refusal { problem: format!("{found} is not a choice"), rule, help }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: Read>(text: &str) -> Result<T, Refusal> {
        T::read(DeValue::parse(text).expect("TOML").get_ref())
    }

    fn help<T: Read>(text: &str) -> Option<String> {
        read::<T>(text).err().expect("refused").help
    }

    #[test]
    fn a_value_of_the_wrong_type_is_refused_with_what_was_meant() {
        assert_eq!(help::<Bytes>("67108864").as_deref(), Some("did you mean \"64MiB\"?"));
        assert_eq!(help::<Duration>("30").as_deref(), Some("did you mean \"30s\"?"));
        assert_eq!(help::<u64>("\"5\"").as_deref(), Some("write it without quotes: 5"));
        assert_eq!(help::<String>("5").as_deref(), Some("did you mean \"5\"?"));
        assert_eq!(help::<Access>("\"readwrite\"").as_deref(), Some("did you mean \"read-write\"?"));
        assert_eq!(help::<TenantId>("\"Acme\"").as_deref(), Some("did you mean \"acme\"?"));
        for wrong in ["[]", "{}", "true", "1979-05-27", "-1", "1.5"] {
            assert!(read::<u64>(wrong).is_err() && read::<Bytes>(wrong).is_err(), "{wrong}");
            assert!(read::<Duration>(wrong).is_err() && read::<String>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_can_not_be_zero_can_not_be_written_as_zero() {
        assert!(read::<Positive<Duration>>("\"0s\"").is_err() && read::<Duration>("\"0s\"").is_ok());
        assert!(read::<Positive<Bytes>>("\"0MiB\"").is_err() && read::<Positive<u64>>("0").is_err());
        assert!(read::<NonZeroU32>("0").is_err() && read::<Positive<Fuel>>("0").is_err());
    }

    #[test]
    fn numbers_are_read_in_every_notation_of_toml() {
        assert_eq!(read::<u64>("5_000_000_000"), Ok(5_000_000_000));
        assert_eq!(read::<u64>("0x10"), Ok(16));
        assert_eq!(read::<f64>("2"), Ok(2.0));
        assert_eq!(read::<f64>("1.5e1"), Ok(15.0));
    }
}
