//! The languages of handlers: what a project of each consists of, and how it is recognised.

use std::path::{Path, PathBuf};

use clap::ValueEnum;

use crate::exit::Failure;

/// Language that a handler is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Language {
    /// Built by Cargo
    Rust,
    /// JavaScript or TypeScript, on SpiderMonkey; built by npm's packages
    Js,
    /// On CPython; built by PyPI's packages
    Python,
}

/// Every language, in the order in which a project's is looked for.
const ALL: [Language; 3] = [Language::Rust, Language::Js, Language::Python];

macro_rules! sdk {
    ($path:literal) => {
        include_str!(concat!("../../../../../sdk/", $path))
    };
}

/// The files of a project: name and text, with placeholders.
type Template = &'static [(&'static str, &'static str)];

const RUST: Template = &[
    ("Cargo.toml", sdk!("template/Cargo.toml.tmpl")),
    ("src/lib.rs", sdk!("template/src/lib.rs.tmpl")),
    ("{{name}}.toml", sdk!("template/plugin.toml.tmpl")),
    ("README.md", sdk!("template/README.md.tmpl")),
    (".gitignore", sdk!("template/gitignore.tmpl")),
];

const JS: Template = &[
    ("package.json", sdk!("js/template/package.json.tmpl")),
    (".npmrc", sdk!("js/template/npmrc.tmpl")),
    ("src/handler.js", sdk!("js/template/handler.js.tmpl")),
    ("test/handler.test.js", sdk!("js/template/handler.test.js.tmpl")),
    ("{{name}}.toml", sdk!("template/plugin.toml.tmpl")),
    ("README.md", sdk!("js/template/README.md.tmpl")),
    (".gitignore", sdk!("js/template/gitignore.tmpl")),
];

const PYTHON: Template = &[
    ("pyproject.toml", sdk!("python/template/pyproject.toml.tmpl")),
    ("requirements.txt", sdk!("python/template/requirements.txt.tmpl")),
    ("handler.py", sdk!("python/template/handler.py.tmpl")),
    ("test_handler.py", sdk!("python/template/test_handler.py.tmpl")),
    ("{{name}}.toml", sdk!("template/plugin.toml.tmpl")),
    ("README.md", sdk!("python/template/README.md.tmpl")),
    (".gitignore", sdk!("python/template/gitignore.tmpl")),
];

/// The SDKs of the checkout that this command was built from.
const SDKS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../sdk");

const VERSION: &str = env!("CARGO_PKG_VERSION");

impl Language {
    /// Returns the language of the project in a folder.
    pub(super) fn of_project(folder: &Path) -> Result<Self, Failure> {
        ALL.into_iter().find(|language| folder.join(language.manifest()).is_file()).ok_or_else(|| {
            let manifests = ALL.map(Self::manifest).join(", ");
            Failure::new(format!("there is none of {manifests} in {}", folder.display()))
                .help("name the project's folder, or start one: sandhog plugin new NAME")
        })
    }

    /// Returns the file that makes a folder a project of this language.
    pub(super) fn manifest(self) -> &'static str {
        match self {
            Self::Rust => "Cargo.toml",
            Self::Js => "package.json",
            Self::Python => "pyproject.toml",
        }
    }

    pub(super) fn template(self) -> Template {
        match self {
            Self::Rust => RUST,
            Self::Js => JS,
            Self::Python => PYTHON,
        }
    }

    /// Returns the shell command that installs a project's dependencies and tests it.
    pub(super) fn test_command(self) -> &'static str {
        match self {
            Self::Rust => "cargo test",
            Self::Js => "npm install && npm test",
            Self::Python => {
                "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt && .venv/bin/python -m unittest"
            }
        }
    }

    /// Returns the SDK as the language's tools name it: the one in `given`, or else that of the checkout that this command
    /// was built from. If the checkout is gone, the published one.
    pub(super) fn sdk(self, given: Option<&Path>) -> Result<String, Failure> {
        let path = match given {
            Some(path) => path
                .canonicalize()
                .map_err(|cause| Failure::io(format!("find {}", path.display()), &cause))?,
            None => match self.sdk_of_checkout().canonicalize() {
                Ok(path) => path,
                Err(_) => return Ok(self.published_sdk()),
            },
        };
        let path = path.display();
        Ok(match self {
            Self::Rust => format!("path = {}", toml::Value::String(path.to_string())),
            Self::Js => format!("file:{path}"),
            Self::Python => format!("sandhog-sdk[build] @ file://{path}"),
        })
    }

    fn sdk_of_checkout(self) -> PathBuf {
        match self {
            Self::Rust => PathBuf::from(SDKS),
            Self::Js => Path::new(SDKS).join("js"),
            Self::Python => Path::new(SDKS).join("python"),
        }
    }

    fn published_sdk(self) -> String {
        match self {
            Self::Rust => format!("version = \"{VERSION}\""),
            Self::Js => format!("^{VERSION}"),
            Self::Python => format!("sandhog-sdk[build]=={VERSION}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_has_its_manifest_and_no_placeholder_but_those_that_are_filled_in() {
        for language in ALL {
            let files = language.template();
            for (file, text) in files {
                let filled = text.replace("{{name}}", "greeter").replace("{{sdk}}", "here");
                // The types of JSDoc have two braces, too, and a blank after them.
                let is_left = |rest: &str| rest.starts_with(|c: char| c.is_ascii_lowercase());
                let left = filled.split("{{").skip(1).any(is_left);
                assert!(!left, "{language:?} {file}: {filled}");
            }
            assert!(files.iter().any(|(file, _)| *file == language.manifest()), "{language:?}");
        }
    }
}
