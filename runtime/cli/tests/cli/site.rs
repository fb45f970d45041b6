//! A folder with configuration, in which the command runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use sandhog_guests::{ECHO, Guest};
use serde_json::Value;

/// A component, in WebAssembly text, whose handler does this.
pub(crate) fn component(body: &str) -> String {
    Guest::that(body).text()
}

/// A folder with configuration, in which the command runs.
pub(crate) struct Site {
    folder: tempfile::TempDir,
}

/// How a command ended, and what it said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Site {
    /// An empty folder.
    pub(crate) fn empty() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    /// One with a daemon file that says nothing, and a plugin `echo` of tenant `acme` for the kind `echo.run`.
    pub(crate) fn new() -> Self {
        let site = Self::empty();
        site.write("sandhog.toml", "");
        site.write("plugins.d/echo.wasm", &component(ECHO));
        site.plugin("echo", "");
        site
    }

    /// Writes the TOML of a plugin whose component is `echo.wasm`.
    pub(crate) fn plugin(&self, name: &str, more: &str) {
        let head = format!("[plugin]\nname = \"{name}\"\ntenant = \"acme\"\ncomponent = \"echo.wasm\"\n");
        self.write(&format!("plugins.d/{name}.toml"), &format!("{head}kinds = [\"{name}.run\"]\n{more}\n"));
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("it is in the folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    }

    /// The command, ready to be started in the folder, with an environment that says nothing else.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sandhog"));
        command.args(arguments).current_dir(self.folder.path()).env("SANDHOG_CACHE", self.path("cache"));
        command.env_remove("SANDHOG_CONFIG").env_remove("NO_COLOR").stdin(Stdio::null());
        for variable in ["URL", "TOKEN", "CA", "CERT", "KEY"] {
            command.env_remove(format!("SANDHOG_{variable}"));
        }
        command
    }

    /// Runs the command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Said {
        Said::new(self.command(arguments).output().expect("the command starts"))
    }

    /// Runs the command with text on its standard input.
    pub(crate) fn run_with_input(&self, arguments: &[&str], input: &Path) -> Said {
        let input = fs::File::open(input).expect("the input is there");
        Said::new(self.command(arguments).stdin(input).output().expect("the command starts"))
    }

    /// Runs the command with `--json`, and reads what it prints.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let said = self.run(&[&["--json"], arguments].concat());
        assert_eq!(said.code, 0, "{arguments:?}: {said:?}");
        serde_json::from_str(&said.out).expect("one JSON document")
    }

    /// Enqueues a job for `echo.run`, and returns its id.
    pub(crate) fn enqueue(&self, more: &[&str]) -> String {
        let said = self.run(&[&["enqueue", "echo.run"], more].concat());
        assert_eq!(said.code, 0, "{said:?}");
        said.out.trim().to_owned()
    }

    /// How many jobs of `acme` there are in a state.
    pub(crate) fn count(&self, state: &str) -> u64 {
        self.json(&["jobs"])["tenants"][0]["counts"][state].as_u64().expect("a number")
    }
}

impl Said {
    pub(crate) fn new(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("text");
        Self {
            code: output.status.code().expect("no signal"),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }

    /// Asserts that the command failed with this code, and said each of these on standard error.
    pub(crate) fn fails(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, code, "{self:?}");
        for part in parts {
            assert!(self.err.contains(part), "`{part}` is said: {}", self.err);
        }
    }
}
