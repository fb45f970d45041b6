//! The trait that the `handler` attribute implements, and the dispatch of payloads to it.

use crate::codec::{Decode, Encode};
use crate::context::Context;
use crate::failure::{Failure, Result, permanent};

/// Handler of one kind of job. The [`handler`](macro@crate::handler) attribute implements it.
pub trait Handler {
    /// Kind of job that it handles, such as `image.thumbnail`.
    const KIND: &'static str;

    /// Decodes the payload, handles the job and encodes the output.
    ///
    /// # Errors
    /// If the handler gave up, or the payload or the output isn't the JSON of its type.
    fn handle(ctx: &Context, payload: Vec<u8>) -> Result<Vec<u8>>;
}

/// Function that decodes a payload, handles the job and encodes the output: [`Handler::handle`].
pub type HandlerFn = fn(&Context, Vec<u8>) -> Result<Vec<u8>>;

/// A component's handlers by kind.
pub(crate) type Table = [(&'static str, HandlerFn)];

/// Lists handlers by kind, for [`FakeHost::drain`](crate::FakeHost::drain): `handlers![resize, images::crop]`.
#[macro_export]
macro_rules! handlers {
    ($($handler:path),* $(,)?) => {
        [$((
            <$handler as $crate::Handler>::KIND,
            <$handler as $crate::Handler>::handle as $crate::HandlerFn,
        )),*]
    };
}

/// Makes the handlers of a crate into a component. Write it once, with every handler: `export!(resize, images::crop);`.
///
/// The component declares the handlers' kinds, in its custom section `sandhog:kinds`, so that a plugin's TOML can be held
/// against them before it is deployed.
///
/// The macro has an effect for Wasm targets only, so that a native `cargo test` needs no host. On every target it refuses two
/// handlers of one kind.
#[macro_export]
macro_rules! export {
    ($($handler:path),+ $(,)?) => {
        const _: () = ::core::assert!(
            $crate::__private::kinds_are_distinct(&[$(<$handler as $crate::Handler>::KIND),+]),
            "two of the exported handlers have the same kind"
        );
        $crate::__export_to_host!($($handler),+);
    };
}

#[cfg(not(target_family = "wasm"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __export_to_host {
    ($($handler:path),+) => {};
}

#[cfg(target_family = "wasm")]
#[doc(hidden)]
#[macro_export]
macro_rules! __export_to_host {
    ($($handler:path),+) => {
        #[allow(unsafe_code)]
        const _: () = {
            struct Component;

            impl $crate::__private::Guest for Component {
                fn handle(job: $crate::__private::Job) -> ::core::result::Result<$crate::__private::Output, $crate::__private::WitFailure> {
                    $crate::__private::run(job, &[
                        $((<$handler as $crate::Handler>::KIND, <$handler as $crate::Handler>::handle)),+
                    ])
                }
            }

            $crate::__private::export_component!(Component with_types_in $crate::__private::bindings);
        };
        $(
            #[allow(unsafe_code)]
            const _: () = {
                const KIND: &str = <$handler as $crate::Handler>::KIND;
                // The linker joins the lines of all handlers.
                #[used]
                #[unsafe(link_section = "sandhog:kinds")]
                static LINE: [u8; KIND.len() + 1] = $crate::__private::kind_line(KIND);
            };
        )+
    };
}

/// Runs the handler of the context's kind.
#[cfg_attr(
    not(any(target_family = "wasm", test)),
    allow(dead_code, reason = "a native test names its handler")
)]
pub(crate) fn dispatch(table: &Table, ctx: &Context, payload: Vec<u8>) -> Result<Vec<u8>> {
    match table.iter().find(|(kind, _)| *kind == ctx.kind()) {
        Some((_, handle)) => handle(ctx, payload),
        None => Err(unknown_kind(table, ctx.kind())),
    }
}

fn unknown_kind(table: &Table, kind: &str) -> Failure {
    let known: Vec<String> = table.iter().map(|(known, _)| format!("`{known}`")).collect();
    permanent(format_args!("this component has no handler of `{kind}`, only of {}", known.join(", ")))
}

/// Decodes a job's payload.
///
/// # Errors
/// A permanent failure if it isn't the JSON of the type: it would be the same the next time.
pub fn decode_payload<T: Decode>(kind: &str, payload: Vec<u8>) -> Result<T> {
    T::decode(payload)
        .map_err(|error| permanent(format_args!("the payload is no input of `{kind}`: {error}")))
}

/// Encodes a handler's output.
///
/// # Errors
/// A permanent failure if the value has no JSON form: it would have none the next time either.
pub fn encode_output<T: Encode>(kind: &str, output: T) -> Result<Vec<u8>> {
    output
        .into_bytes()
        .map_err(|error| permanent(format_args!("the output of `{kind}` has no JSON form: {error}")))
}

/// Whether no two kinds are the same. It is `const`, so that [`export!`] can check it at compile time.
#[must_use]
pub const fn kinds_are_distinct(kinds: &[&str]) -> bool {
    let mut first = 0;
    while first < kinds.len() {
        let mut second = first + 1;
        while second < kinds.len() {
            if same(kinds[first].as_bytes(), kinds[second].as_bytes()) {
                return false;
            }
            second += 1;
        }
        first += 1;
    }
    true
}

/// Returns a kind as a line of the section that declares it. `N` is the length of the kind plus 1.
#[must_use]
pub const fn kind_line<const N: usize>(kind: &str) -> [u8; N] {
    let mut line = [b'\n'; N];
    let mut at = 0;
    while at < kind.len() {
        line[at] = kind.as_bytes()[at];
        at += 1;
    }
    line
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut at = 0;
    while at < a.len() {
        if a[at] != b[at] {
            return false;
        }
        at += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Bytes, FakeHost, transient};

    #[crate::handler(kind = "double")]
    fn double(number: i64) -> Result<i64> {
        Ok(number * 2)
    }

    #[crate::handler(kind = "who")]
    fn who(ctx: &Context, Bytes(greeting): Bytes) -> Result<Bytes> {
        Ok(Bytes([&greeting, ctx.tenant().as_bytes()].concat()))
    }

    #[crate::handler(kind = "fail")]
    fn fail() -> Result<()> {
        Err(transient("not today"))
    }

    const TABLE: &Table =
        &[(double::KIND, double::handle), (who::KIND, who::handle), (fail::KIND, fail::handle)];

    fn run(kind: &str, payload: &[u8]) -> Result<Vec<u8>> {
        FakeHost::new().kind(kind).run(|ctx| dispatch(TABLE, ctx, payload.to_vec())).result
    }

    #[test]
    fn a_job_goes_to_the_handler_of_its_kind() {
        assert_eq!(run("double", b"21"), Ok(b"42".to_vec()));
        assert_eq!(run("who", b"\xffhi "), Ok(b"\xffhi acme".to_vec()));
        assert_eq!(run("fail", b"whatever"), Err(transient("not today")));
    }

    #[test]
    fn an_unknown_kind_is_permanent_and_names_the_kinds_there_are() {
        let message = "this component has no handler of `triple`, only of `double`, `who`, `fail`";
        assert_eq!(run("triple", b"1"), Err(permanent(message)));
    }

    #[test]
    fn a_payload_that_does_not_parse_is_permanent_and_names_the_place() {
        let message = "the payload is no input of `double`: expected value at line 1 column 1";
        assert_eq!(run("double", b"?"), Err(permanent(message)));
    }

    #[test]
    fn two_handlers_of_one_kind_are_found() {
        assert!(kinds_are_distinct(&["a", "b", "ab"]));
        assert!(!kinds_are_distinct(&["a", "b", "a"]));
    }

    #[test]
    fn a_kind_is_declared_by_a_line() {
        const LINE: [u8; 4] = kind_line("a.b");
        assert_eq!(&LINE, b"a.b\n");
    }
}
