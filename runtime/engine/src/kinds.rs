//! Kinds that a component declares in a custom section of its own.

use sandhog_core::id::Kind;
use sandhog_core::kinds::{InvalidSection, SECTION, parse};
use wasmparser::{Parser, Payload};

/// Returns the kinds that a component declares. `None` if it declares nothing, as one that was built without an SDK, or isn't a
/// component at all. Linkers leave the section in the module that it was made in, so it is looked for at every depth.
///
/// # Errors
/// The section's content isn't a list of kinds.
pub fn declared_kinds(wasm: &[u8]) -> Result<Option<Vec<Kind>>, InvalidSection> {
    let mut declared: Option<Vec<u8>> = None;
    // WebAssembly text has no sections. Bytes that can't be parsed are for the compiler to refuse.
    for payload in Parser::new(0).parse_all(wasm).map_while(Result::ok) {
        if let Payload::CustomSection(section) = payload
            && section.name() == SECTION
        {
            declared.get_or_insert_default().extend(section.data());
        }
    }
    declared.map(|section| parse(&section)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_section(wat: &str) -> Vec<u8> {
        wat::parse_str(wat).expect("WebAssembly text")
    }

    #[test]
    fn kinds_are_found_at_any_depth_and_joined() {
        let wasm = with_section(
            r#"(component
                (core module (@custom "sandhog:kinds" "a.run\n") (@custom "other" "x"))
                (component (core module (@custom "sandhog:kinds" "b.run\n")))
                (@custom "sandhog:kinds" "c.run\n"))"#,
        );
        let kinds = declared_kinds(&wasm).expect("they are kinds").expect("they are declared");
        assert_eq!(kinds.iter().map(Kind::as_str).collect::<Vec<_>>(), ["a.run", "b.run", "c.run"]);
    }

    #[test]
    fn a_component_without_the_section_declares_nothing() {
        assert_eq!(declared_kinds(&with_section("(component)")), Ok(None));
        assert_eq!(declared_kinds(b"(component)"), Ok(None));
        assert_eq!(declared_kinds(b"\0asm\x0d\0\x01\0\xff\xff"), Ok(None));
        assert_eq!(declared_kinds(b""), Ok(None));
    }

    #[test]
    fn what_is_no_kind_is_an_error() {
        let wasm = with_section(r#"(component (@custom "sandhog:kinds" "Not a kind\n"))"#);
        assert!(matches!(declared_kinds(&wasm), Err(InvalidSection::Line(_))));
    }
}
