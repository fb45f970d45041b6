//! Expansion of `#[handler(kind = "…")] fn name(…)` to that function and a type of the same name that implements `Handler`.
//!
//! Functions and types have namespaces of their own, so both can have the author's name for it: the function is for
//! calling, the type for naming.

use proc_macro2::TokenStream;
use quote::quote;
use syn::parse::Parser;
use syn::{FnArg, ItemFn, LitStr, PatType, ReturnType, Signature, Type};

/// Maximum length of a kind, as in the runtime: a kind that it refuses is found when the handler is compiled, not when it
/// is deployed.
const KIND_LENGTH_MAX: usize = 127;
const KIND_RULE: &str = "a kind is 1 to 127 of a-z, 0-9, `.`, `_`, `-`, starting with a letter or digit";
const NO_KIND: &str = "which kind of job does it handle? write #[handler(kind = \"image.thumbnail\")]";
const WRONG_PARAMETERS: &str =
    "a handler takes (), (ctx: &Context), (input: Input) or (ctx: &Context, input: Input)";

/// Parameters of a handler function.
struct Parameters {
    context: bool,
    input: Option<Type>,
}

pub(crate) fn expand(arguments: TokenStream, item: TokenStream) -> syn::Result<TokenStream> {
    let kind = parse_kind(arguments)?;
    let function: ItemFn = syn::parse2(item)?;
    check(&function.sig)?;
    let Parameters { context, input } = parse_parameters(&function.sig)?;

    let name = &function.sig.ident;
    let visibility = &function.vis;
    let doc = format!("The handler of `{}`: see the function of this name.", kind.value());
    let ctx = context.then(|| quote!(ctx,));
    let decoded =
        input.map(|input| quote!(::sandhog_sdk::__private::decode_payload::<#input>(Self::KIND, payload)?));
    Ok(quote! {
        #function

        #[doc = #doc]
        #[allow(non_camel_case_types)]
        #visibility enum #name {}

        impl ::sandhog_sdk::Handler for #name {
            const KIND: &'static str = #kind;

            #[allow(unused_variables)]
            fn handle(
                ctx: &::sandhog_sdk::Context,
                payload: ::std::vec::Vec<u8>,
            ) -> ::sandhog_sdk::Result<::std::vec::Vec<u8>> {
                ::sandhog_sdk::__private::encode_output(Self::KIND, #name(#ctx #decoded)?)
            }
        }
    })
}

fn parse_kind(arguments: TokenStream) -> syn::Result<LitStr> {
    let mut kind: Option<LitStr> = None;
    let parser = syn::meta::parser(|meta| {
        if !meta.path.is_ident("kind") {
            return Err(meta.error(NO_KIND));
        }
        if kind.is_some() {
            return Err(meta.error("one handler has one kind"));
        }
        kind = Some(meta.value()?.parse()?);
        Ok(())
    });
    parser.parse2(arguments)?;
    let kind = kind.ok_or_else(|| syn::Error::new(proc_macro2::Span::call_site(), NO_KIND))?;
    if is_kind(&kind.value()) { Ok(kind) } else { Err(syn::Error::new(kind.span(), KIND_RULE)) }
}

fn is_kind(text: &str) -> bool {
    text.len() <= KIND_LENGTH_MAX
        && text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
}

fn check(signature: &Signature) -> syn::Result<()> {
    let refuse = |tokens: &dyn quote::ToTokens, why: &str| Err(syn::Error::new_spanned(tokens, why));
    if let Some(asyncness) = &signature.asyncness {
        return refuse(asyncness, "a handler isn't async: it has its instance to itself and may block");
    }
    if let Some(first) = signature.generics.params.first() {
        return refuse(first, "a handler isn't generic: its payload has one type");
    }
    match &signature.output {
        ReturnType::Type(..) => Ok(()),
        ReturnType::Default => refuse(&signature.ident, "a handler returns a Result, if only Result<()>"),
    }
}

fn parse_parameters(signature: &Signature) -> syn::Result<Parameters> {
    let mut typed = Vec::new();
    for parameter in &signature.inputs {
        match parameter {
            FnArg::Typed(PatType { ty, .. }) => typed.push(&**ty),
            FnArg::Receiver(receiver) => return Err(syn::Error::new_spanned(receiver, WRONG_PARAMETERS)),
        }
    }
    match typed[..] {
        [] => Ok(Parameters { context: false, input: None }),
        [Type::Reference(_)] => Ok(Parameters { context: true, input: None }),
        [input] => Ok(Parameters { context: false, input: Some(input.clone()) }),
        [Type::Reference(_), input] => Ok(Parameters { context: true, input: Some(input.clone()) }),
        _ => Err(syn::Error::new_spanned(&signature.inputs, WRONG_PARAMETERS)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(arguments: TokenStream, item: TokenStream) -> String {
        match expand(arguments, item) {
            Ok(code) => panic!("accepted: {code}"),
            Err(error) => error.to_string(),
        }
    }

    fn call(item: TokenStream) -> String {
        let code = expand(quote!(kind = "a.b"), item).expect("the handler is a good one").to_string();
        let start = code.find("encode_output").expect("the output is encoded");
        code[start..].to_owned()
    }

    #[test]
    fn context_and_input_are_each_optional() {
        assert!(
            call(quote!(
                fn f() -> Result<()> {
                    Ok(())
                }
            ))
            .contains("f () ?")
        );
        assert!(
            call(quote!(
                fn f(c: &Context) -> Result<()> {
                    Ok(())
                }
            ))
            .contains("f (ctx ,) ?")
        );
        let input = call(quote!(
            fn f(input: Input) -> Result<()> {
                Ok(())
            }
        ));
        assert!(input.contains("f (:: sandhog_sdk") && input.contains(":: < Input >"), "{input}");
        let both = call(quote!(
            fn f(c: &Context, input: Input) -> Result<()> {
                Ok(())
            }
        ));
        assert!(both.contains("f (ctx , :: sandhog_sdk") && both.contains(":: < Input >"), "{both}");
    }

    #[test]
    fn the_handler_is_as_visible_as_its_function() {
        let code = expand(
            quote!(kind = "a"),
            quote!(
                pub(crate) fn f() -> Result<()> {
                    Ok(())
                }
            ),
        );
        let code = code.expect("the handler is a good one").to_string();
        assert!(code.contains("pub (crate) enum f"), "{code}");
    }

    #[test]
    fn a_missing_kind_is_asked_for() {
        let function = quote!(
            fn f() -> Result<()> {
                Ok(())
            }
        );
        assert_eq!(refusal(quote!(), function.clone()), NO_KIND);
        assert_eq!(refusal(quote!(name = "x"), function), NO_KIND);
    }

    #[test]
    fn a_kind_that_the_runtime_would_refuse_does_not_compile() {
        let too_long = "k".repeat(128);
        for kind in ["", ".a", "Image", "a b", "ä", &too_long] {
            let function = quote!(
                fn f() -> Result<()> {
                    Ok(())
                }
            );
            assert_eq!(refusal(quote!(kind = #kind), function), KIND_RULE, "{kind}");
        }
        assert!(is_kind("image.thumbnail") && is_kind("7-zip_x") && is_kind(&"k".repeat(127)));
    }

    #[test]
    fn what_cannot_be_a_handler_is_refused_with_the_reason() {
        let refused = |item| refusal(quote!(kind = "a"), item);
        assert!(
            refused(quote!(
                async fn f() -> Result<()> {}
            ))
            .contains("isn't async")
        );
        assert!(
            refused(quote!(
                fn f<T>(t: T) -> Result<()> {}
            ))
            .contains("isn't generic")
        );
        assert!(
            refused(quote!(
                fn f() {}
            ))
            .contains("returns a Result")
        );
        assert_eq!(
            refused(quote!(
                fn f(&self) -> Result<()> {}
            )),
            WRONG_PARAMETERS
        );
        assert_eq!(
            refused(quote!(
                fn f(a: A, c: &Context) -> Result<()> {}
            )),
            WRONG_PARAMETERS
        );
        assert_eq!(
            refused(quote!(
                fn f(c: &Context, a: A, b: B) -> Result<()> {}
            )),
            WRONG_PARAMETERS
        );
    }
}
