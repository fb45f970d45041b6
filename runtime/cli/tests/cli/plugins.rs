//! `sandhog plugin`.

use sandhog_guests::{ECHO, SPIN, TRAP};

use crate::site::{Site, component};

/// A folder with a component.
fn with(body: &str) -> Site {
    let site = Site::empty();
    site.write("a.wat", &component(body));
    site
}

const RUN: [&str; 5] = ["plugin", "run", "a.wat", "--kind", "a.run"];

#[test]
fn a_component_runs_once_with_no_broker_and_shows_result_and_usage() {
    let site = with(ECHO);
    let said = site.run(&[&RUN[..], &["{\"b\": 1, \"a\": 2}"]].concat());
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.starts_with("returned fuel "), "{}", said.out);
    assert!(said.out.ends_with("{\n  \"b\": 1,\n  \"a\": 2\n}\n"), "{}", said.out);
    let document = site.json(&[&RUN[..], &["[1]"]].concat());
    assert_eq!(document["outcome"], "returned");
    assert_eq!(document["output"]["json"], serde_json::json!([1]));
    assert!(document["usage"]["fuel"].as_u64().is_some_and(|fuel| fuel > 0));
    assert_eq!(site.run(&[&RUN[..], &["--output", "[1]"]].concat()).out, "[1]");
}

#[test]
fn a_payload_comes_from_the_command_line_a_file_or_standard_input() {
    let site = with(ECHO);
    site.write("payload", "\u{1}no JSON");
    for (more, output) in [
        (&["--raw", "--file", "payload"][..], "\u{1}no JSON"),
        (&["--raw", "{"], "{"),
        (&[], "null"),
        (&["7"], "7"),
    ] {
        let said = site.run(&[&RUN[..], &["--output"], more].concat());
        assert_eq!((said.code, said.out.as_str()), (0, output), "{more:?}");
    }
    let said = site.run_with_input(&[&RUN[..], &["--output", "--raw", "-"]].concat(), &site.path("payload"));
    assert_eq!(said.out, "\u{1}no JSON");
    site.run(&[&RUN[..], &["{"]].concat()).fails(1, &["the payload is not JSON", "--raw"]);
    site.run(&[&RUN[..], &["--file", "payload"]].concat()).fails(1, &["in payload is not JSON", "--raw"]);
    assert_eq!(site.run(&[&RUN[..], &["1", "--file", "payload"]].concat()).code, 2);
}

#[test]
fn the_exit_code_tells_how_the_run_ended() {
    let out_of_fuel = with(SPIN).run(&[&RUN[..], &["--fuel", "1_000_000"]].concat());
    assert_eq!(out_of_fuel.code, 3, "{out_of_fuel:?}");
    assert!(
        out_of_fuel.out.contains("out-of-fuel") && out_of_fuel.out.contains("1000000"),
        "{out_of_fuel:?}"
    );
    let limits = ["--fuel", "1_000_000_000_000", "--timeout", "50ms"];
    let timed_out = with(SPIN).run(&[&RUN[..], &limits].concat());
    assert!(timed_out.code == 1 && timed_out.out.contains("timed-out"), "{timed_out:?}");
    let trapped = with(TRAP).run(&RUN);
    assert!(trapped.code == 1 && trapped.out.contains("trapped"), "{trapped:?}");
    assert_eq!(with(ECHO).run(&[&RUN[..], &["--memory", "64 megs"]].concat()).code, 2);
}

#[test]
fn a_component_is_inspected_whether_or_not_it_could_run() {
    let site = with(ECHO);
    let document = site.json(&["plugin", "inspect", "a.wat"]);
    assert_eq!(document["exports"], serde_json::json!(["handle"]));
    assert_eq!(document["imports"][0]["name"], "sandhog:job/types@0.1.0");
    assert_eq!(
        (document["problems"].as_array().map(Vec::len), document["may_ask_for"].clone()),
        (Some(0), serde_json::json!([]))
    );
    assert_eq!(document["not_granted"], serde_json::Value::Null);
    site.write("other.wat", "(component)");
    let said = site.run(&["plugin", "inspect", "other.wat"]);
    assert!(said.code == 1 && said.out.contains("handle"), "{said:?}");
    site.write("none.wasm", "garbage");
    site.run(&["plugin", "inspect", "none.wasm"]).fails(1, &["none.wasm"]);
    site.run(&["plugin", "run", "none.wasm", "-k", "a"]).fails(1, &["none.wasm"]);
    site.run(&["plugin", "inspect", "missing.wasm"]).fails(1, &["can't read missing.wasm"]);
}

#[test]
fn what_a_component_asks_for_and_does_not_get_is_told_by_its_toml() {
    let site = with(ECHO);
    let asks = r#"(component (import "wasi:cli/environment@0.2.0" (instance))
        (import "sandhog:job/secrets@0.1.0" (instance)))"#;
    site.write("asks.wat", asks);
    let plugin = |grants: &str| {
        format!(
            "[plugin]\nname = \"asks\"\ntenant = \"acme\"\ncomponent = \"asks.wat\"\nkinds = [\"a\"]\n[grants]\n{grants}\n"
        )
    };
    let not_granted = |arguments: &[&str]| {
        let said = site.run(&[&["--json", "plugin", "inspect", "asks.wat"], arguments].concat());
        let document: serde_json::Value = serde_json::from_str(&said.out).expect("JSON");
        assert_eq!(document["may_ask_for"], serde_json::json!(["env", "secrets"]));
        document["not_granted"].clone()
    };
    assert_eq!(not_granted(&[]), serde_json::Value::Null);
    // A reference to what isn't there is none of its business.
    site.write("asks.toml", &plugin("env = { A = { env = \"NOT_SET\" } }"));
    assert_eq!(not_granted(&[]), serde_json::json!(["secrets"]));
    site.write("elsewhere.toml", &plugin("secrets = [\"A\"]").replace("asks.wat", "other.wat"));
    assert_eq!(not_granted(&["--plugin", "elsewhere.toml"]), serde_json::json!(["env"]));
    site.write("wrong.toml", "[plugin]");
    site.run(&["plugin", "inspect", "asks.wat", "--plugin", "wrong.toml"]).fails(64, &["plugin.name"]);
}

#[test]
fn a_new_plugin_is_a_whole_project_whose_toml_is_right() {
    let site = Site::empty();
    let said = site.run(&["plugin", "new", "greet-me"]);
    assert_eq!(said.code, 0, "{said:?}");
    for file in ["Cargo.toml", "src/lib.rs", "greet-me.toml", "README.md", ".gitignore"] {
        let path = site.path("greet-me").join(file);
        let text = std::fs::read_to_string(&path).expect(file);
        assert!(!text.contains("{{"), "{file} has no placeholder left: {text}");
    }
    for step in
        ["cargo test", "sandhog plugin build", "sandhog plugin run greet-me.wasm --kind greet-me.greet"]
    {
        assert!(said.out.contains(step), "{step}: {}", said.out);
    }
    site.run(&["plugin", "new", "greet-me"]).fails(1, &["greet-me is there already", "--dir"]);
    assert_eq!(site.run(&["plugin", "new", "Greet"]).code, 2);

    // What it wrote can be deployed as it is.
    site.write("sandhog.toml", "plugins = \"greet-me\"\n");
    std::fs::rename(site.path("greet-me/Cargo.toml"), site.path("Cargo.toml")).expect("it is there");
    site.write("greet-me/greet-me.wasm", &component(ECHO));
    let document = site.json(&["check"]);
    assert_eq!(document["config"]["plugins"][0]["kinds"], serde_json::json!(["greet-me.greet"]));
}

#[test]
fn the_first_handler_of_the_readme_is_what_a_new_plugin_has() {
    let readme = include_str!("../../../../README.md");
    let (_, code) = readme.split_once("```rust\n").expect("there is a handler");
    let (code, _) = code.split_once("```").expect("it ends");
    let site = Site::empty();
    assert_eq!(site.run(&["plugin", "new", "greet"]).code, 0);
    let written = std::fs::read_to_string(site.path("greet/src/lib.rs")).expect("it is there");
    assert!(written.contains(code), "{written}");
}

#[test]
fn a_new_plugin_may_be_in_another_language() {
    for (language, manifest, handler, test) in [
        ("js", "package.json", "src/handler.js", "npm test"),
        ("python", "pyproject.toml", "handler.py", "python -m unittest"),
    ] {
        let site = Site::empty();
        let said = site.run(&["plugin", "new", "greet-me", "--lang", language]);
        assert_eq!(said.code, 0, "{said:?}");
        assert!(said.out.contains(test) && said.out.contains("sandhog plugin build"), "{}", said.out);
        let text = |file| std::fs::read_to_string(site.path("greet-me").join(file)).expect(file);
        assert!(text(manifest).contains("\"greet-me\"") && text(handler).contains("\"greet-me.greet\""));
        // The TOML is right.
        site.write("sandhog.toml", "");
        site.write("plugins.d/greet-me.toml", &text("greet-me.toml"));
        site.write("plugins.d/greet-me.wasm", &component(ECHO));
        let document = site.json(&["check"]);
        assert_eq!(document["config"]["plugins"][0]["kinds"], serde_json::json!(["greet-me.greet"]));
    }
    assert_eq!(Site::empty().run(&["plugin", "new", "greet", "--lang", "cobol"]).code, 2);
}

#[test]
fn building_what_is_no_project_says_what_to_do() {
    Site::empty().run(&["plugin", "build"]).fails(1, &["Cargo.toml", "sandhog plugin new NAME"]);
    let site = Site::empty();
    site.write("package.json", r#"{"name": "@acme/greet", "main": "greet.js"}"#);
    site.run(&["plugin", "build"]).fails(1, &["sandhog-js", "npm install"]);
    site.run(&["plugin", "build", "--profile", "dev"]).fails(1, &["--profile is Cargo's"]);
    site.write("package.json", "{");
    site.run(&["plugin", "build"]).fails(1, &["package.json", "line 1"]);
}
