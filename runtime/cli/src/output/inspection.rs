//! Output of an inspected component.

use std::path::Path;

use sandhog_api::Time;
use sandhog_config::{PluginFile, Signer};
use sandhog_core::id::{Kind, Revision, TenantId};
use sandhog_core::kinds::{Difference, compare};
use sandhog_core::text;
use sandhog_daemon::clock::Clock;
use sandhog_daemon::deploy::signatures::{Demand, Newness, SignatureFile};
use sandhog_engine::{Inspection, NeededGrant};
use serde::Serialize;

use super::{Paint, bytes, pairs};

/// JSON document of a component. Names and meanings stay as they are; more may come.
#[derive(Debug, Serialize)]
pub struct InspectionDocument {
    /// The file.
    pub file: String,
    /// The sha256 of its bytes: its revision.
    pub sha256: String,
    /// Size in bytes.
    pub size: u64,
    /// The imports that it needs from the host.
    pub imports: Vec<ImportDocument>,
    /// The names of its exports.
    pub exports: Vec<String>,
    /// The kinds that it declares to have handlers of; null if it declares nothing.
    pub kinds: Option<Vec<String>>,
    /// The difference between its kinds and those that its TOML lists; null if it declares nothing, or no TOML was found.
    pub kinds_differ: Option<KindsDocument>,
    /// The parts of `[grants]` that it may ask for: `http`, `dirs`, `env`, `secrets`.
    pub may_ask_for: Vec<&'static str>,
    /// The parts of `may_ask_for` that its TOML doesn't grant; null if no TOML was found.
    pub not_granted: Option<Vec<&'static str>>,
    /// The signature beside it.
    pub signature: SignatureDocument,
    /// Reasons why a daemon couldn't run it; empty if it could.
    pub problems: Vec<String>,
}

/// The difference between the kinds of a component and of its TOML.
#[derive(Debug, Serialize)]
pub struct KindsDocument {
    /// Kinds that the TOML lists and the component has no handler of: it isn't deployed.
    pub unhandled: Vec<String>,
    /// Kinds that the component has handlers of and the TOML doesn't list.
    pub unlisted: Vec<String>,
}

/// An import that a component needs from the host.
#[derive(Debug, Serialize)]
pub struct ImportDocument {
    /// The full name.
    pub name: String,
    /// Whether the host provides it.
    pub served: bool,
}

/// The signature of a component.
#[derive(Debug, Serialize)]
pub struct SignatureDocument {
    /// The public key of the signer; null unless there is a valid signature beside the component.
    pub signer: Option<String>,
    /// The plugin that it is signed for, as `TENANT/PLUGIN`.
    pub plugin: Option<String>,
    /// The number that rises from one component of the plugin to the next.
    pub number: Option<u64>,
    /// The time from which on it isn't deployed anew.
    pub expires: Option<Time>,
    /// A description of what is wrong with the signature, if there is one that is wrong.
    pub problem: Option<String>,
    /// Whether the tenant that was named accepts it.
    pub trusted: Option<bool>,
    /// The reason why the tenant doesn't accept it.
    pub refusal: Option<String>,
}

/// A tenant, and the signers whose components it accepts.
#[derive(Debug)]
pub struct Trust {
    /// The tenant.
    pub tenant: TenantId,
    /// The signers that it trusts; empty means that it takes all components.
    pub signers: Vec<Signer>,
}

impl SignatureDocument {
    /// Creates the document of the signature beside a component of this digest, and of whether a tenant accepts it.
    #[must_use]
    pub fn new(component: &Path, revision: Revision, trust: Option<&Trust>) -> Self {
        let file = match SignatureFile::beside(component) {
            Ok(file) => file,
            Err(unreadable) => {
                let problem = Some(unreadable.to_string());
                let refusal = trust.and_then(|_| problem.clone());
                let trusted = trust.map(|_| false);
                return Self {
                    signer: None,
                    plugin: None,
                    number: None,
                    expires: None,
                    problem,
                    trusted,
                    refusal,
                };
            }
        };
        let signed = file.statement(revision);
        let problem = signed.as_ref().err().map(ToString::to_string);
        let (signer, statement) = signed.ok().flatten().unzip();
        let taken = trust.map(|Trust { tenant, signers }| {
            let is_new = Some(Newness { latest: None, now: Clock::system().now() });
            file.check(&Demand { signers, tenant, plugin: None, revision, is_new })
        });
        Self {
            problem,
            signer: signer.map(|signer| signer.to_string()),
            plugin: statement.as_ref().map(|statement| format!("{}/{}", statement.tenant, statement.plugin)),
            number: statement.as_ref().map(|statement| statement.number),
            expires: statement.and_then(|statement| statement.expires).map(Time),
            trusted: taken.as_ref().map(Result::is_ok),
            refusal: taken.and_then(|taken| taken.err().map(|refusal| refusal.to_string())),
        }
    }

    fn for_people(&self, paint: Paint) -> String {
        let signer = match (&self.signer, &self.problem) {
            (Some(signer), _) => {
                let of = self.plugin.as_ref().map(|plugin| format!("\nfor {plugin}"));
                let number = self.number.map(|number| format!(", number {number}"));
                let until = self.expires.map(|expires| format!(", until {expires}"));
                let parts = [of, number, until].into_iter().flatten();
                parts.fold(signer.clone(), |said, part| said + &part)
            }
            (None, Some(problem)) => paint.red(&text::block(problem)),
            (None, None) => "nobody".to_owned(),
        };
        match (self.trusted, &self.refusal) {
            (Some(true), _) => format!("{signer}\n{}", paint.green("its tenant takes it")),
            (_, Some(refusal)) => {
                format!("{signer}\n{}", paint.red(&text::block(&format!("refused: {refusal}"))))
            }
            _ => signer,
        }
    }
}

impl InspectionDocument {
    /// Creates the document of an inspected file, given its TOML, if there is one.
    #[must_use]
    pub fn new(
        file: String,
        inspection: &Inspection,
        signature: SignatureDocument,
        toml: Option<&PluginFile>,
    ) -> Self {
        let imports = || inspection.imports.iter();
        let may_ask_for: Vec<&'static str> = NeededGrant::of(imports().map(|import| import.name.as_str()))
            .into_iter()
            .filter_map(NeededGrant::grant)
            .collect();
        let not_granted =
            toml.map(|toml| may_ask_for.iter().copied().filter(|key| !toml.granted.contains(key)).collect());
        let texts = |kinds: &[Kind]| kinds.iter().map(Kind::to_string).collect::<Vec<_>>();
        let kinds_differ = inspection.kinds.as_deref().zip(toml).map(|(declared, toml)| {
            let Difference { unhandled, unlisted } = compare(declared, &toml.kinds);
            KindsDocument { unhandled: texts(&unhandled), unlisted: texts(&unlisted) }
        });
        Self {
            file,
            sha256: inspection.revision.to_string(),
            size: inspection.size.0,
            imports: imports()
                .map(|import| ImportDocument { name: import.name.clone(), served: import.served })
                .collect(),
            exports: inspection.exports.clone(),
            kinds: inspection.kinds.as_deref().map(texts),
            kinds_differ,
            may_ask_for,
            not_granted,
            signature,
            problems: inspection.problems.clone(),
        }
    }

    /// Whether a daemon could run it, it has handlers of all kinds that its TOML lists, and the tenant that was named would
    /// accept it.
    #[must_use]
    pub fn is_fine(&self) -> bool {
        let is_handled = self.kinds_differ.as_ref().is_none_or(|differ| differ.unhandled.is_empty());
        self.problems.is_empty() && is_handled && self.signature.trusted != Some(false)
    }

    fn kinds_for_people(&self, paint: Paint) -> String {
        let Some(kinds) = &self.kinds else { return "it doesn't say".to_owned() };
        let names = |kinds: &[String]| if kinds.is_empty() { "nothing".to_owned() } else { kinds.join("\n") };
        let mut text = names(kinds);
        let differ = self.kinds_differ.iter();
        for kind in differ.clone().flat_map(|differ| &differ.unhandled) {
            text.push_str(&format!(
                "\n{}",
                paint.red(&format!("{kind}: its TOML lists it, and there is no handler"))
            ));
        }
        for kind in differ.flat_map(|differ| &differ.unlisted) {
            text.push_str(&format!("\n{kind}: its TOML doesn't list it"));
        }
        text
    }
}

/// Renders an inspected component, for people.
#[must_use]
pub fn inspection(document: &InspectionDocument, paint: Paint) -> String {
    let list = |names: Vec<String>| if names.is_empty() { "nothing".to_owned() } else { names.join("\n") };
    let import = |import: &ImportDocument| match import.served {
        true => text::line(&import.name).into_owned(),
        false => format!("{} {}", text::line(&import.name), paint.red("(the host has no such thing)")),
    };
    let grants = |keys: &[&str]| match keys {
        [] => "nothing".to_owned(),
        keys => keys.iter().map(|grant| format!("grants.{grant}")).collect::<Vec<_>>().join(", "),
    };
    let verdict = if document.problems.is_empty() {
        paint.green("a daemon can run it")
    } else {
        let problems: Vec<String> =
            document.problems.iter().map(|problem| text::block(problem).into_owned()).collect();
        paint.red(&problems.join("\n"))
    };
    let lines = [
        ("component", document.file.clone()),
        ("size", bytes(document.size)),
        ("sha256", document.sha256.clone()),
        ("imports", list(document.imports.iter().map(import).collect())),
        ("exports", list(document.exports.iter().map(|export| text::line(export).into_owned()).collect())),
        ("handles", document.kinds_for_people(paint)),
        ("may ask for", grants(&document.may_ask_for)),
        (
            "not granted",
            document.not_granted.as_deref().map_or_else(|| "its TOML isn't known".to_owned(), grants),
        ),
        ("signed by", document.signature.for_people(paint)),
        ("verdict", verdict),
    ];
    pairs(lines, paint)
}
