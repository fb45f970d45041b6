//! What `sandhog plugin new` writes, in every language: its own test passes, it builds, and what it builds runs.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use sandhog_tests::{binary, cache};

fn succeeds(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|cause| panic!("{command:?}: {cause}"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}:\n{out}\n{err}");
    out.into_owned()
}

/// Starts a project, makes its toolchain's environment, and sees it through: `prepared` gets the project's folder, and
/// every command that is run in it.
fn a_new_project_works(language: &str, test: &[&str], prepared: impl Fn(&Path, &mut Command)) {
    let folder = tempfile::tempdir().expect("a folder");
    let project = folder.path().join("greeter");
    succeeds(
        Command::new(binary())
            .args(["plugin", "new", "greeter", "--lang", language])
            .current_dir(folder.path()),
    );
    let run = |command: &mut Command| {
        command.current_dir(&project);
        prepared(&project, command);
        succeeds(command)
    };
    run(Command::new(test[0]).args(&test[1..]));
    let built = run(Command::new(binary()).args(["--json", "plugin", "build"]));
    assert!(built.contains("greeter.wasm"), "{built}");

    let greet =
        ["plugin", "run", "greeter.wasm", "--kind", "greeter.greet", "--output", r#"{"name": "Ann"}"#];
    // No build is the same as another one, so what is compiled here is of use to nobody else.
    let greeting = run(Command::new(binary()).args(greet).env("SANDHOG_CACHE", folder.path()));
    let greeting: serde_json::Value = serde_json::from_str(&greeting).expect("JSON");
    assert_eq!(greeting, serde_json::json!({"greeting": "hello, Ann"}));
}

#[test]
fn a_new_project_in_javascript_tests_builds_and_runs() {
    a_new_project_works("js", &["npm", "test"], |project, _| {
        // What `npm install` would do, without the network.
        let packages = project.join("node_modules");
        if !packages.exists() {
            symlink(cache().join("js/node_modules"), packages).expect("a link");
        }
    });
}

#[test]
fn top_level_code_that_only_a_job_could_run_is_told_and_nothing_is_said_to_be_missing() {
    let project = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| fs::write(project.path().join(name), text).expect("a file");
    write("package.json", r#"{"name": "chance", "type": "module", "main": "chance.js"}"#);
    let handlers = "import { handler } from \"sandhog-sdk\";\nconst chance = Math.random();\n";
    write("chance.js", &format!("{handlers}export const a = handler(\"a.run\", () => chance);\n"));
    symlink(cache().join("js/node_modules"), project.path().join("node_modules")).expect("a link");
    let output = Command::new(binary())
        .args(["plugin", "build"])
        .current_dir(project.path())
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("top-level code of the handlers"), "{said}");
    assert!(said.contains("get-random-u64") && said.contains("do that in a handler"), "{said}");
    assert!(!said.contains("npm install"), "{said}");
}

#[test]
fn a_new_project_in_python_tests_builds_and_runs() {
    let sdk =
        fs::canonicalize(concat!(env!("CARGO_MANIFEST_DIR"), "/../sdk/python")).expect("the SDK is there");
    let environment = cache().join("python");
    let python = environment.join("bin/python").display().to_string();
    a_new_project_works("python", &[&python, "-m", "unittest", "--quiet"], |_, command| {
        command.env("VIRTUAL_ENV", &environment).env("PYTHONPATH", &sdk);
    });
}
