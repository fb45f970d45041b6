//! What `sandhog plugin new` writes has no placeholder but those that it fills in.

const FILES: [(&str, &str); 5] = [
    ("Cargo.toml", include_str!("../template/Cargo.toml.tmpl")),
    ("lib.rs", include_str!("../template/src/lib.rs.tmpl")),
    ("plugin.toml", include_str!("../template/plugin.toml.tmpl")),
    ("README.md", include_str!("../template/README.md.tmpl")),
    (".gitignore", include_str!("../template/gitignore.tmpl")),
];

#[test]
fn every_placeholder_is_filled_in() {
    for (file, text) in FILES {
        let filled = text.replace("{{name}}", "greeter").replace("{{sdk}}", "version = \"0.1\"");
        assert!(!filled.contains("{{") && !filled.contains("}}"), "{file}: {filled}");
    }
}
