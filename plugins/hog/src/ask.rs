//! Asking for what an operator may have granted, or for what may have been left by another job.

use std::sync::atomic::{AtomicU64, Ordering};

use sandhog_sdk::{Bytes, Context, OrFailIo, Result, handler};
use serde::{Deserialize, Serialize};

/// Which secret to ask for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AskedSecret {
    /// Its name.
    pub name: String,
}

/// What the secret is like; never what it is.
#[derive(Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum SecretFound {
    /// It is so long.
    Bytes(usize),
    /// It can't be had, for this reason.
    Refused(String),
}

/// Which file to read.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AskedFile {
    /// Its path in the sandbox.
    pub path: String,
}

/// Returns how long a secret is, or why it can't be had.
#[handler(kind = "hog.secret")]
pub fn secret(ctx: &Context, input: AskedSecret) -> Result<SecretFound> {
    Ok(match ctx.secret(&input.name) {
        Ok(secret) => SecretFound::Bytes(secret.expose().len()),
        Err(error) => SecretFound::Refused(error.to_string()),
    })
}

/// Reads a file, and returns what is in it.
#[handler(kind = "hog.read")]
pub fn read(input: AskedFile) -> Result<Bytes> {
    Ok(Bytes(std::fs::read(&input.path).or_fail_io(format_args!("read {}", input.path))?))
}

/// Counts its calls where nothing lasts, and returns the count: 1, if every job gets an instance of its own.
#[handler(kind = "hog.remember")]
pub fn remember() -> Result<u64> {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    Ok(CALLS.fetch_add(1, Ordering::Relaxed) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sandhog_sdk::FakeHost;

    #[test]
    fn a_secret_is_told_by_its_length_alone() {
        let mut host = FakeHost::new().secret("TOKEN", "hunter2");
        let run = host.run_payload::<secret>(r#"{"name": "TOKEN"}"#);
        assert_eq!(run.result, Ok(br#"{"bytes":7}"#.to_vec()));
        let run = host.run(|ctx| secret(ctx, AskedSecret { name: "OTHER".into() }));
        assert!(matches!(run.result, Ok(SecretFound::Refused(why)) if why.contains("OTHER")));
    }

    #[test]
    fn a_file_is_read_if_it_can_be() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a").display().to_string();
        assert!(read(AskedFile { path: path.clone() }).is_err_and(|failure| failure.is_permanent()));
        std::fs::write(&path, "hello").expect("a file");
        assert_eq!(read(AskedFile { path }), Ok(Bytes(b"hello".to_vec())));
    }

    #[test]
    fn what_is_remembered_grows_in_one_process() {
        let first = remember().expect("it can't fail");
        assert!(remember().expect("it can't fail") > first);
    }
}
