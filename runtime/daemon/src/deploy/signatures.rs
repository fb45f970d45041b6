//! Who made a component: signatures beside components, and whose of them a tenant takes.
//!
//! A signature is a small TOML file beside the component, `x.wasm.sig` for `x.wasm`. It names the key, the digest that
//! was signed, and has the ed25519 signature of that digest behind a text that says what it is for. A tenant that names
//! `signers` takes nothing that isn't signed by one of them. What is checked is the digest of the very bytes that are
//! loaded, so nothing can change in between.

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
use sandhog_config::regular_file;
use sandhog_config::{InvalidSigner, Signer};
use sandhog_core::budget::Bytes;
use sandhog_core::id::Revision;
use serde::{Deserialize, Serialize};

/// What a signature is for: it can't be taken for one of anything else that the same key signs.
const DOMAIN: &[u8] = b"sandhog component signature v1\0";

/// No signature is larger, nor a key.
const FILE_MAX: Bytes = Bytes::kib(4);

/// Permissions that let others see: group and everybody.
const OTHERS_READ: u32 = 0o077;

/// The file of a signature.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signed {
    signer: String,
    sha256: String,
    signature: String,
}

/// Why a component isn't taken, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// There is no signature.
    #[error(
        "it is not signed: there is no {signature}; let one of its tenant's signers run \
         `sandhog plugin sign {component} --key KEY`"
    )]
    Unsigned {
        /// The component.
        component: PathBuf,
        /// Where its signature would be.
        signature: PathBuf,
    },
    /// The signature's file can't be read.
    #[error("can't read its signature {signature}: {cause}")]
    Unreadable {
        /// The file.
        signature: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The signature's file is none.
    #[error("{signature} is not a signature: {reason}; make it again by `sandhog plugin sign`")]
    Malformed {
        /// The file.
        signature: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The component isn't the one that was signed.
    #[error(
        "it was changed since it was signed: it has sha256 {found}, and {signature} is for {signed}; \
         deploy the signed component, or sign this one by `sandhog plugin sign`"
    )]
    Changed {
        /// The signature's file.
        signature: PathBuf,
        /// The digest of the component.
        found: Box<Revision>,
        /// The digest that was signed.
        signed: String,
    },
    /// The signature isn't by the key that it names.
    #[error(
        "{signature} is forged or damaged: {signer} has not signed this; sign it by `sandhog plugin sign`"
    )]
    Forged {
        /// The file.
        signature: PathBuf,
        /// Who was said to have signed.
        signer: Signer,
    },
    /// It is signed by somebody whom its tenant doesn't trust.
    #[error(
        "it is signed by {signer}, who is none of its tenant's signers; let one of them sign it, or add this key to \
         `signers` of the tenant in the daemon's file"
    )]
    Stranger {
        /// Who has signed.
        signer: Signer,
    },
}

/// The file of a component's signature, read once: what is checked is what is kept.
#[derive(Debug, Clone)]
pub struct SignatureFile {
    component: PathBuf,
    path: PathBuf,
    /// None if there is no such file.
    text: Option<String>,
}

impl SignatureFile {
    /// Reads the file beside a component, if there is one.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn beside(component: &Path) -> Result<Self, Refusal> {
        let path = signature_path(component);
        let text = match regular_file::read_text(&path, FILE_MAX) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(cause) => return Err(Refusal::Unreadable { signature: path, cause }),
        };
        Ok(Self { component: component.to_owned(), path, text })
    }

    /// What is in it, if it is there.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// Holds a component of this digest against what its tenant demands: `signers`, of whom one must have signed it; none
    /// if anything goes. Says who it was.
    ///
    /// # Errors
    /// If signers are demanded, and none of them has signed this very component.
    pub fn check(&self, found: Revision, signers: &[Signer]) -> Result<Option<Signer>, Refusal> {
        if signers.is_empty() {
            return Ok(None);
        }
        match self.signer(found)? {
            Some(signer) if signers.contains(&signer) => Ok(Some(signer)),
            Some(signer) => Err(Refusal::Stranger { signer }),
            None => {
                Err(Refusal::Unsigned { component: self.component.clone(), signature: self.path.clone() })
            }
        }
    }

    /// Who has signed a component of this digest, if anybody has. Whether that matters is for others to say.
    ///
    /// # Errors
    /// If there is a signature, and it isn't a right one of this component.
    pub fn signer(&self, found: Revision) -> Result<Option<Signer>, Refusal> {
        let Some(text) = &self.text else { return Ok(None) };
        let signature = || self.path.clone();
        let malformed = |reason: String| Refusal::Malformed { signature: signature(), reason };
        let signed: Signed = toml::from_str(text).map_err(|error| malformed(error.message().to_owned()))?;
        let signer: Signer =
            signed.signer.parse().map_err(|invalid: InvalidSigner| malformed(invalid.to_string()))?;
        let bytes = BASE64.decode(signed.signature.as_bytes()).ok();
        let bytes = bytes.and_then(|bytes| Signature::from_slice(&bytes).ok());
        let bytes = bytes.ok_or_else(|| malformed("`signature` is not 64 bytes in base64".to_owned()))?;
        if signed.sha256 != found.to_string() {
            let (signature, found) = (signature(), Box::new(found));
            return Err(Refusal::Changed { signature, found, signed: signed.sha256 });
        }
        match signer.key().and_then(|key| key.verify_strict(&message(found), &bytes)) {
            Ok(()) => Ok(Some(signer)),
            Err(_) => Err(Refusal::Forged { signature: signature(), signer }),
        }
    }
}

/// Where the signature of a component is: beside it.
#[must_use]
pub fn signature_path(component: &Path) -> PathBuf {
    let mut path = component.as_os_str().to_owned();
    path.push(".sig");
    path.into()
}

fn message(digest: Revision) -> Vec<u8> {
    [DOMAIN, digest.as_sha256()].concat()
}

/// A private key, which signs components.
pub struct Key(SigningKey);

impl Key {
    /// A new one.
    ///
    /// # Errors
    /// If the system gives no random bytes.
    pub fn generate() -> io::Result<Self> {
        let mut secret = [0; 32];
        SysRng.try_fill_bytes(&mut secret).map_err(io::Error::other)?;
        Ok(Self(SigningKey::from_bytes(&secret)))
    }

    /// Reads one from a file that only its owner can read: PKCS#8 in PEM, as OpenSSL writes it too.
    ///
    /// # Errors
    /// If it can't be read, others could, or it is no such key.
    pub fn read(path: &Path) -> io::Result<Self> {
        let file = regular_file::open(path)?;
        if file.metadata().mode() & OTHERS_READ != 0 {
            return Err(io::Error::other("others can read it; `chmod 600` it"));
        }
        let key = SigningKey::from_pkcs8_pem(&file.read_text(FILE_MAX)?);
        key.map(Self).map_err(|_| io::Error::other("it is no ed25519 key (PKCS#8 in PEM)"))
    }

    /// Writes it to a file that isn't there yet, for its owner's eyes only.
    ///
    /// # Errors
    /// If there is such a file, or it can't be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        // Without the public key, which older readers of PKCS#8 stumble over.
        let pair = KeypairBytes { secret_key: self.0.to_bytes(), public_key: None };
        let pem = pair.to_pkcs8_pem(LineEnding::LF).map_err(io::Error::other)?;
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(pem.as_bytes())?;
        file.sync_all()
    }

    /// Its public half, for `signers`.
    #[must_use]
    pub fn signer(&self) -> Signer {
        Signer::from(&self.0.verifying_key())
    }

    /// Signs a component of this digest, and writes the signature beside it.
    ///
    /// # Errors
    /// If that can't be written.
    pub fn sign(&self, component: &Path, digest: Revision) -> io::Result<PathBuf> {
        let signed = Signed {
            signer: self.signer().to_string(),
            sha256: digest.to_string(),
            signature: BASE64.encode(&self.0.sign(&message(digest)).to_bytes()),
        };
        let text = toml::to_string(&signed).map_err(io::Error::other)?;
        let path = signature_path(component);
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        // Renamed into place: whoever looks sees the old one or all of the new one.
        let mut file = tempfile::Builder::new()
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .tempfile_in(folder.unwrap_or_else(|| Path::new(".")))?;
        file.write_all(text.as_bytes())?;
        file.persist(&path)?;
        Ok(path)
    }
}

/// Shows whose it is, and no more.
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

    impl Bed {
        /// A component that Ann has signed.
        fn new() -> Self {
            let bed = Self {
                folder: tempfile::tempdir().expect("a folder"),
                ann: Key::generate().expect("random"),
            };
            bed.ann.sign(&bed.component(), REAL).expect("ours");
            bed
        }

        fn component(&self) -> PathBuf {
            self.folder.path().join("x.wasm")
        }

        fn check(&self, found: Revision, signers: &[Signer]) -> Result<Option<Signer>, Refusal> {
            SignatureFile::beside(&self.component())?.check(found, signers)
        }

        fn edit(&self, edit: impl Fn(&str) -> String) {
            let path = signature_path(&self.component());
            let text = fs::read_to_string(&path).expect("it is there");
            fs::write(path, edit(&text)).expect("ours");
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
    fn a_signature_can_not_be_made_to_fit() {
        let bed = Bed::new();
        let (ann, bob) = (bed.ann.signer(), Key::generate().expect("random"));
        // It names another digest than was signed.
        bed.edit(|text| text.replace(&REAL.to_string(), &OTHER.to_string()));
        assert!(matches!(bed.check(OTHER, &[ann]), Err(Refusal::Forged { .. })));
        // Bob signs, and says that it was Ann.
        bob.sign(&bed.component(), REAL).expect("ours");
        bed.edit(|text| text.replace(&bob.signer().to_string(), &ann.to_string()));
        assert!(matches!(bed.check(REAL, &[ann]), Err(Refusal::Forged { .. })));
    }

    #[test]
    fn what_else_a_key_has_signed_is_no_signature_of_a_component() {
        let bed = Bed::new();
        let bare = BASE64.encode(&bed.ann.0.sign(REAL.as_sha256()).to_bytes());
        bed.edit(|text| {
            let head =
                text.lines().filter(|line| !line.starts_with("signature")).collect::<Vec<_>>().join("\n");
            format!("{head}\nsignature = \"{bare}\"\n")
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
            &format!("{whole}more = 1\n"),
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
