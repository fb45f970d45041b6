//! The attribute of `sandhog-sdk` that makes a function a handler. Use it through `sandhog_sdk::handler`.

mod handler;

use proc_macro::TokenStream;

/// Makes a function the handler of a kind of job.
///
/// ```text
/// #[handler(kind = "image.thumbnail")]
/// fn thumbnail(ctx: &Context, input: Input) -> Result<Output> { … }
/// ```
///
/// The function takes a `&Context`, an input, both in this order, or nothing, and returns a `Result`. The input is
/// whatever can be decoded from a payload (any `serde::Deserialize`, or raw `Bytes`), the output whatever can be encoded
/// to one. The function stays what it is and can be called from a test; beside it comes a type of the same name that
/// implements `Handler`, for `sandhog_sdk::export!` and `FakeHost::run_payload`.
#[proc_macro_attribute]
pub fn handler(arguments: TokenStream, item: TokenStream) -> TokenStream {
    handler::expand(arguments.into(), item.into()).unwrap_or_else(syn::Error::into_compile_error).into()
}
