//! Signatures of components: who made a component, and whose signatures a tenant accepts.
//!
//! A signature is a small file beside the component, `x.wasm.sig` for `x.wasm`: an envelope of DSSE
//! (<https://github.com/secure-systems-lab/dsse>) around a [`Statement`], which says for which plugin of which tenant a
//! component was signed, with a number that rises, and until when. So a signature for one plugin counts for no other, and an
//! older component can't be put back in the place of a newer one. A tenant that names `signers` accepts nothing that isn't
//! signed by one of them. The digest that is checked is that of the very bytes that are loaded, so nothing can change in
//! between.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use data_encoding::BASE64;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey, KeypairBytes};
use ed25519_dalek::{Signature, Signer as _, SigningKey};
use rand::TryRng;
use rand::rngs::SysRng;
use sandhog_api::Time;
use sandhog_config::{InvalidSigner, Signer};
use sandhog_core::budget::Bytes;
use sandhog_core::id::{PluginName, Revision, TenantId};
use sandhog_core::time::Timestamp;
use sandhog_files::regular_file;
use serde::{Deserialize, Serialize};

/// Payload type of DSSE, by which a signature can't be taken for one of anything else that the same key signs.
const PAYLOAD_TYPE: &str = "application/vnd.sandhog.component+json";

/// Maximum size of a signature's file, and of a key's.
pub(super) const FILE_MAX: Bytes = Bytes::kib(4);

/// Permission bits that let others read a file: group and everybody.
const OTHERS_READ: u32 = 0o077;

/// Statement about a component that a signer signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Tenant that it is signed for.
    pub tenant: TenantId,
    /// Plugin of the tenant that it is signed for.
    pub plugin: PluginName,
    /// Digest of the component.
    pub revision: Revision,
    /// Number that is higher than that of any component of this plugin before.
    pub number: u64,
    /// Time from which the component isn't deployed any more. `None` if it never expires.
    pub expires: Option<Timestamp>,
}

/// [`Statement`] in the form in which it is written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    tenant: String,
    plugin: String,
    sha256: String,
    number: u64,
    expires_ms: Option<u64>,
}

/// Content of a signature's file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    #[serde(rename = "payloadType")]
    payload_type: String,
    payload: String,
    signatures: [EnvelopeSignature; 1],
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EnvelopeSignature {
    keyid: String,
    sig: String,
}

/// Component that is to be deployed, and what its signature is checked against.
#[derive(Debug, Clone)]
pub struct Demand<'d> {
    /// Signers of whom one must have signed the component. Empty if no signature is demanded.
    pub signers: &'d [Signer],
    /// The plugin's tenant.
    pub tenant: &'d TenantId,
    /// The plugin's name. `None` if any plugin of the tenant will do.
    pub plugin: Option<&'d PluginName>,
    /// Digest of the component.
    pub revision: Revision,
    /// Further checks of a component that comes into force anew. `None` if it is in force already.
    pub is_new: Option<Newness>,
}

/// Further checks of a component that comes into force anew.
#[derive(Debug, Clone, Copy)]
pub struct Newness {
    /// Highest number that was signed of this plugin, in another component.
    pub latest: Option<u64>,
    /// Current time.
    pub now: Timestamp,
}

/// Reason why a component isn't accepted, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The component has no signature.
    #[error(
        "it is not signed: there is no {signature}; let one of its tenant's signers run \
         `sandhog plugin sign {component} --plugin {plugin} --key KEY`"
    )]
    Unsigned {
        /// The tenant and its plugin, as `TENANT/NAME`; `TENANT/PLUGIN` if no plugin was named.
        plugin: String,
        /// Path of the component.
        component: PathBuf,
        /// Path at which its signature would be.
        signature: PathBuf,
    },
    /// The signature's file can't be read.
    #[error("can't read its signature {signature}: {cause}")]
    Unreadable {
        /// Path of the signature's file.
        signature: PathBuf,
        /// The system's error.
        cause: io::Error,
    },
    /// The signature's file isn't a signature.
    #[error("{signature} is not a signature: {reason}; make it again by `sandhog plugin sign`")]
    Malformed {
        /// Path of the signature's file.
        signature: PathBuf,
        /// Reason why it isn't one.
        reason: String,
    },
    /// The component isn't the one that was signed.
    #[error(
        "it was changed since it was signed: it has sha256 {found}, and {signature} is for {signed}; \
         deploy the signed component, or sign this one by `sandhog plugin sign`"
    )]
    Changed {
        /// Path of the signature's file.
        signature: PathBuf,
        /// Digest of the component.
        found: Box<Revision>,
        /// Digest that was signed.
        signed: String,
    },
    /// The signature isn't by the key that it names.
    #[error(
        "{signature} is forged or damaged: {signer} has not signed this; sign it by `sandhog plugin sign`"
    )]
    Forged {
        /// Path of the signature's file.
        signature: PathBuf,
        /// Signer that the file names.
        signer: Signer,
    },
    /// The component is signed for another plugin.
    #[error(
        "{signature} is for plugin {signed}, and this is {plugin}; let one of its tenant's signers sign it for this one by \
         `sandhog plugin sign --plugin {plugin}`"
    )]
    ForAnother {
        /// Path of the signature's file.
        signature: PathBuf,
        /// The tenant and its plugin, as `TENANT/NAME`.
        plugin: String,
        /// The plugin that it is signed for, as `TENANT/NAME`.
        signed: String,
    },
    /// A component with a number at least as high was deployed already.
    #[error(
        "{signature} has number {number}, and one with {latest} was deployed: an older component is taken back by \
         `sandhog plugin rollback`, or signed anew by `sandhog plugin sign`"
    )]
    PutBack {
        /// Path of the signature's file.
        signature: PathBuf,
        /// Number that was signed.
        number: u64,
        /// Highest number so far.
        latest: u64,
    },
    /// The signature has expired.
    #[error("{signature} was right until {expired}; sign it anew by `sandhog plugin sign`")]
    Expired {
        /// Path of the signature's file.
        signature: PathBuf,
        /// Time since which it isn't valid any more.
        expired: Time,
    },
    /// The component is signed by somebody whom its tenant doesn't trust.
    #[error(
        "it is signed by {signer}, who is none of its tenant's signers; let one of them sign it, or add this key to \
         `signers` of the tenant in the daemon's file"
    )]
    Stranger {
        /// Signer of the component.
        signer: Signer,
    },
}

/// File of a component's signature, read once, so that the text that is checked is the one that is kept.
#[derive(Debug, Clone)]
pub struct SignatureFile {
    component: PathBuf,
    path: PathBuf,
    /// Content of the file. `None` if there is no such file.
    text: Option<String>,
}

impl SignatureFile {
    /// Reads the file beside a component, if there is one.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn beside(component: &Path) -> Result<Self, Refusal> {
        let path = signature_path(component);
        let text = regular_file::read_text(&path, FILE_MAX);
        Self::of(component.to_owned(), path, text)
    }

    /// Takes a component's signature from what was read of its file.
    ///
    /// # Errors
    /// The file couldn't be read, and is there.
    pub(super) fn of(component: PathBuf, path: PathBuf, text: io::Result<String>) -> Result<Self, Refusal> {
        match text {
            Ok(text) => Ok(Self { component, path, text: Some(text) }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self { component, path, text: None }),
            Err(cause) => Err(Refusal::Unreadable { signature: path, cause }),
        }
    }

    /// Content of the file. `None` if there is no such file.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// Checks a component against what its tenant demands. Returns who has signed it, or `None` if no signers are demanded.
    ///
    /// # Errors
    /// Signers are demanded, and none of them has signed this very component for this plugin; or it is to come into force anew,
    /// and a later one was deployed already, or its signature has expired.
    pub fn check(&self, demand: &Demand<'_>) -> Result<Option<Signer>, Refusal> {
        if demand.signers.is_empty() {
            return Ok(None);
        }
        let of_tenant = |plugin: &str| format!("{}/{plugin}", demand.tenant);
        let Some((signer, statement)) = self.statement(demand.revision)? else {
            // In a command, PLUGIN stands for a name that isn't known, as KEY does for a file.
            let plugin = of_tenant(demand.plugin.map_or("PLUGIN", PluginName::as_str));
            let (component, signature) = (self.component.clone(), self.path.clone());
            return Err(Refusal::Unsigned { plugin, component, signature });
        };
        if !demand.signers.contains(&signer) {
            return Err(Refusal::Stranger { signer });
        }
        let plugin = demand.plugin.unwrap_or(&statement.plugin);
        if (&statement.tenant, &statement.plugin) != (demand.tenant, plugin) {
            let signed = format!("{}/{}", statement.tenant, statement.plugin);
            let plugin = of_tenant(plugin.as_str());
            return Err(Refusal::ForAnother { signature: self.path.clone(), plugin, signed });
        }
        let Some(Newness { latest, now }) = demand.is_new else { return Ok(Some(signer)) };
        if let Some(latest) = latest.filter(|latest| statement.number <= *latest) {
            let (signature, number) = (self.path.clone(), statement.number);
            return Err(Refusal::PutBack { signature, number, latest });
        }
        match statement.expires.filter(|expires| *expires <= now) {
            Some(expired) => Err(Refusal::Expired { signature: self.path.clone(), expired: Time(expired) }),
            None => Ok(Some(signer)),
        }
    }

    /// Returns who has signed a component of this digest, and their statement. `None` if there is no signature. Whether that
    /// matters is for others to say.
    ///
    /// # Errors
    /// There is a signature, and it isn't a right one of this component.
    pub fn statement(&self, found: Revision) -> Result<Option<(Signer, Statement)>, Refusal> {
        let Some(text) = &self.text else { return Ok(None) };
        let signature = || self.path.clone();
        let malformed = |reason: String| Refusal::Malformed { signature: signature(), reason };
        let envelope: Envelope = serde_json::from_str(text).map_err(|error| malformed(error.to_string()))?;
        if envelope.payload_type != PAYLOAD_TYPE {
            return Err(malformed(format!("`payloadType` is not {PAYLOAD_TYPE}")));
        }
        let [EnvelopeSignature { keyid, sig }] = envelope.signatures;
        let signer: Signer =
            keyid.parse().map_err(|invalid: InvalidSigner| malformed(invalid.to_string()))?;
        let bytes = BASE64.decode(sig.as_bytes()).ok();
        let bytes = bytes.and_then(|bytes| Signature::from_slice(&bytes).ok());
        let bytes = bytes.ok_or_else(|| malformed("`sig` is not 64 bytes in base64".to_owned()))?;
        let payload = BASE64.decode(envelope.payload.as_bytes());
        let payload = payload.map_err(|_| malformed("`payload` is not base64".to_owned()))?;
        if signer.key().and_then(|key| key.verify_strict(&message(&payload), &bytes)).is_err() {
            return Err(Refusal::Forged { signature: signature(), signer });
        }
        let written: Written =
            serde_json::from_slice(&payload).map_err(|error| malformed(error.to_string()))?;
        let statement = Statement::read(&written).map_err(malformed)?;
        if statement.revision != found {
            let (signature, found) = (signature(), Box::new(found));
            return Err(Refusal::Changed { signature, found, signed: written.sha256 });
        }
        Ok(Some((signer, statement)))
    }
}

impl Statement {
    fn read(written: &Written) -> Result<Self, String> {
        Ok(Self {
            tenant: TenantId::parse(&written.tenant).map_err(|invalid| invalid.to_string())?,
            plugin: PluginName::parse(&written.plugin).map_err(|invalid| invalid.to_string())?,
            revision: Revision::parse(&written.sha256).map_err(|invalid| invalid.to_string())?,
            number: written.number,
            expires: written.expires_ms.map(Timestamp::from_millis),
        })
    }

    fn write(&self) -> Written {
        Written {
            tenant: self.tenant.to_string(),
            plugin: self.plugin.to_string(),
            sha256: self.revision.to_string(),
            number: self.number,
            expires_ms: self.expires.map(Timestamp::as_millis),
        }
    }
}

/// Returns the path of a component's signature: beside it.
#[must_use]
pub fn signature_path(component: &Path) -> PathBuf {
    let mut path = component.as_os_str().to_owned();
    path.push(".sig");
    path.into()
}

/// Makes the message that is signed: the payload with its type, each behind its length, as DSSE has it.
fn message(payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

/// Private key, which signs components.
pub struct Key(SigningKey);

impl Key {
    /// Generates a new key.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn generate() -> io::Result<Self> {
        let mut secret = [0; 32];
        SysRng.try_fill_bytes(&mut secret).map_err(io::Error::other)?;
        Ok(Self(SigningKey::from_bytes(&secret)))
    }

    /// Reads a key from a file that only its owner can read: PKCS#8 in PEM, as OpenSSL writes it too.
    ///
    /// # Errors
    /// The file can't be read, others could read it, or it is no such key.
    pub fn read(path: &Path) -> io::Result<Self> {
        let file = regular_file::open(path)?;
        if file.metadata().mode() & OTHERS_READ != 0 {
            return Err(io::Error::other("others can read it; `chmod 600` it"));
        }
        let key = SigningKey::from_pkcs8_pem(&file.read_text(FILE_MAX)?);
        key.map(Self).map_err(|_| io::Error::other("it is no ed25519 key (PKCS#8 in PEM)"))
    }

    /// Writes the key to a new file that only its owner can read.
    ///
    /// # Errors
    /// There is such a file, or it can't be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        // The public key is left out, which older readers of PKCS#8 stumble over.
        let pair = KeypairBytes { secret_key: self.0.to_bytes(), public_key: None };
        let pem = pair.to_pkcs8_pem(LineEnding::LF).map_err(io::Error::other)?;
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(pem.as_bytes())?;
        file.sync_all()
    }

    /// Public half of the key, for `signers`.
    #[must_use]
    pub fn signer(&self) -> Signer {
        Signer::from(&self.0.verifying_key())
    }

    /// Signs a statement about a component, and writes the signature beside it. Returns the signature's path.
    ///
    /// # Errors
    /// The signature can't be written.
    pub fn sign(&self, component: &Path, statement: &Statement) -> io::Result<PathBuf> {
        let payload = serde_json::to_vec(&statement.write())?;
        let sig = BASE64.encode(&self.0.sign(&message(&payload)).to_bytes());
        let envelope = Envelope {
            payload_type: PAYLOAD_TYPE.to_owned(),
            payload: BASE64.encode(&payload),
            signatures: [EnvelopeSignature { keyid: self.signer().to_string(), sig }],
        };
        let text = serde_json::to_string(&envelope)?;
        let path = signature_path(component);
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        // Renamed into place, so that a reader sees the old signature or all of the new one.
        let mut file = tempfile::Builder::new()
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .tempfile_in(folder.unwrap_or_else(|| Path::new(".")))?;
        file.write_all(text.as_bytes())?;
        file.persist(&path)?;
        Ok(path)
    }
}

/// Shows only the public half.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.signer())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    struct Bed {
        folder: tempfile::TempDir,
        ann: Key,
    }

    const REAL: Revision = revision(1);
    const OTHER: Revision = revision(2);

    const fn revision(n: u8) -> Revision {
        Revision::from_sha256([n; 32])
    }

    fn statement(revision: Revision, number: u64) -> Statement {
        let (tenant, plugin) =
            (TenantId::parse("acme").expect("valid"), PluginName::parse("x").expect("valid"));
        Statement { tenant, plugin, revision, number, expires: None }
    }

    impl Bed {
        /// A component that Ann has signed, with number 5.
        fn new() -> Self {
            let bed = Self {
                folder: tempfile::tempdir().expect("a folder"),
                ann: Key::generate().expect("random"),
            };
            bed.sign(&bed.ann, &statement(REAL, 5));
            bed
        }

        fn component(&self) -> PathBuf {
            self.folder.path().join("x.wasm")
        }

        fn sign(&self, key: &Key, statement: &Statement) {
            key.sign(&self.component(), statement).expect("ours");
        }

        fn check(&self, found: Revision, signers: &[Signer]) -> Result<Option<Signer>, Refusal> {
            self.check_as("acme", "x", found, signers, None)
        }

        fn check_new(&self, latest: Option<u64>, now: u64) -> Result<Option<Signer>, Refusal> {
            let is_new = Some(Newness { latest, now: Timestamp::from_millis(now) });
            self.check_as("acme", "x", REAL, &[self.ann.signer()], is_new)
        }

        fn check_as(
            &self,
            tenant: &str,
            plugin: &str,
            revision: Revision,
            signers: &[Signer],
            is_new: Option<Newness>,
        ) -> Result<Option<Signer>, Refusal> {
            let (tenant, plugin) =
                (TenantId::parse(tenant).expect("valid"), PluginName::parse(plugin).expect("valid"));
            let demand = Demand { signers, tenant: &tenant, plugin: Some(&plugin), revision, is_new };
            SignatureFile::beside(&self.component())?.check(&demand)
        }

        fn edit(&self, edit: impl Fn(&str) -> String) {
            let path = signature_path(&self.component());
            let text = fs::read_to_string(&path).expect("it is there");
            fs::write(path, edit(&text)).expect("ours");
        }

        /// Changes the envelope's payload, and leaves its signature.
        fn edit_payload(&self, edit: impl Fn(&str) -> String) {
            self.edit(|text| {
                let mut envelope: Envelope = serde_json::from_str(text).expect("ours");
                let payload = BASE64.decode(envelope.payload.as_bytes()).expect("ours");
                let payload = edit(str::from_utf8(&payload).expect("ours"));
                envelope.payload = BASE64.encode(payload.as_bytes());
                serde_json::to_string(&envelope).expect("ours")
            });
        }
    }

    #[test]
    fn what_a_signer_has_signed_is_taken_and_nothing_else() {
        let bed = Bed::new();
        let (ann, bob) = (bed.ann.signer(), Key::generate().expect("random").signer());
        assert_eq!(bed.check(REAL, &[bob, ann]).expect("Ann has signed"), Some(ann));
        assert!(matches!(bed.check(REAL, &[bob]), Err(Refusal::Stranger { signer }) if signer == ann));
        assert!(matches!(bed.check(OTHER, &[ann]), Err(Refusal::Changed { .. })));
        fs::remove_file(signature_path(&bed.component())).expect("ours");
        assert!(matches!(bed.check(REAL, &[ann]), Err(Refusal::Unsigned { .. })));
        assert_eq!(bed.check(REAL, &[]).expect("nobody demands anything"), None);
    }

    #[test]
    fn what_is_signed_for_one_plugin_is_no_others() {
        let bed = Bed::new();
        let signers = [bed.ann.signer()];
        for (tenant, plugin) in [("globex", "x"), ("acme", "y")] {
            let refused = bed.check_as(tenant, plugin, REAL, &signers, None);
            assert!(matches!(refused, Err(Refusal::ForAnother { .. })), "{refused:?}");
        }
    }

    #[test]
    fn an_older_one_can_not_be_put_back_unless_it_is_in_force() {
        let bed = Bed::new();
        for (latest, taken) in [(None, true), (Some(4), true), (Some(5), false), (Some(u64::MAX), false)] {
            match bed.check_new(latest, 0) {
                Ok(_) => assert!(taken, "{latest:?}"),
                Err(refusal) => {
                    assert!(!taken && matches!(refusal, Refusal::PutBack { number: 5, .. }), "{refusal}");
                }
            }
        }
        assert!(bed.check(REAL, &[bed.ann.signer()]).is_ok(), "whatever came after it");
    }

    #[test]
    fn none_is_taken_anew_after_its_time() {
        let bed = Bed::new();
        bed.sign(&bed.ann, &Statement { expires: Some(Timestamp::from_millis(9)), ..statement(REAL, 5) });
        assert!(bed.check_new(None, 8).is_ok());
        let refusal = bed.check_new(None, 9).expect_err("its time is over");
        assert!(refusal.to_string().contains("was right until 1970-01-01T00:00:00.009Z"), "{refusal}");
        assert!(bed.check(REAL, &[bed.ann.signer()]).is_ok(), "what is in force stays");
    }

    #[test]
    fn a_signature_can_not_be_made_to_fit() {
        let bed = Bed::new();
        let (ann, bob) = (bed.ann.signer(), Key::generate().expect("random"));
        let forged = |edit: &dyn Fn(&str) -> String, found| {
            bed.sign(&bed.ann, &statement(REAL, 5));
            bed.edit_payload(edit);
            let refused = bed.check(found, &[ann]);
            assert!(matches!(refused, Err(Refusal::Forged { .. })), "{refused:?}");
        };
        forged(&|text| text.replace(&REAL.to_string(), &OTHER.to_string()), OTHER);
        forged(&|text| text.replace("\"number\":5", "\"number\":6"), REAL);
        forged(&|text| text.replace("acme", "globex"), REAL);
        // Bob signs, and says that it was Ann.
        bed.sign(&bob, &statement(REAL, 5));
        bed.edit(|text| text.replace(&bob.signer().to_string(), &ann.to_string()));
        assert!(matches!(bed.check(REAL, &[ann]), Err(Refusal::Forged { .. })));
    }

    #[test]
    fn what_else_a_key_has_signed_is_no_signature_of_a_component() {
        let bed = Bed::new();
        bed.edit(|text| {
            let mut envelope: Envelope = serde_json::from_str(text).expect("ours");
            let payload = BASE64.decode(envelope.payload.as_bytes()).expect("ours");
            // Without the type, as another envelope would have another.
            envelope.signatures[0].sig = BASE64.encode(&bed.ann.0.sign(&payload).to_bytes());
            serde_json::to_string(&envelope).expect("ours")
        });
        assert!(matches!(bed.check(REAL, &[bed.ann.signer()]), Err(Refusal::Forged { .. })));
    }

    #[test]
    fn a_file_that_is_no_signature_is_refused() {
        let bed = Bed::new();
        let signers = [bed.ann.signer()];
        let whole = fs::read_to_string(signature_path(&bed.component())).expect("it is there");
        for text in [
            "",
            "garbage",
            &"x".repeat(10_000),
            &whole.replace('{', "{\"more\": 1, "),
            &whole.replace("sandhog.component", "other"),
            "signer = \"ed25519:\"\nsha256 = \"\"\nsignature = \"\"\n",
            &whole.replace("ed25519", "rsa"),
        ] {
            bed.edit(|_| text.to_owned());
            let refused = bed.check(REAL, &signers);
            assert!(
                matches!(refused, Err(Refusal::Malformed { .. } | Refusal::Unreadable { .. })),
                "{refused:?}"
            );
        }
    }

    #[test]
    fn a_key_is_read_as_it_was_written_and_only_its_owner_can() {
        let bed = Bed::new();
        let path = bed.folder.path().join("ann.pem");
        bed.ann.write(&path).expect("ours");
        assert_eq!(path.metadata().expect("it is there").mode() & 0o777, 0o600);
        assert_eq!(Key::read(&path).expect("a key").signer(), bed.ann.signer());
        assert!(bed.ann.write(&path).is_err(), "there is one already");
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o640)).expect("ours");
        assert!(Key::read(&path).expect_err("others can read it").to_string().contains("chmod 600"));
    }
}
