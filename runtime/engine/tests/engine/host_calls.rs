//! What a guest gets from the host, and what it doesn't.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use sandhog_core::effects::StateWrite;
use sandhog_core::job::Level;
use sandhog_core::outcome::Outcome;
use sandhog_engine::{Abort, EnvValue, Grants, Secret};

use super::bed::{Bed, Mood, budget, output};
use super::guests::{self, Guest, RESULT, SCRATCH};

/// Makes the output what a call has left at [`SCRATCH`]: address and length, so far beyond it.
fn returns_answer(call: &str, beyond: u32) -> Guest {
    Guest::that(&format!(
        "{call}
         (i32.store (i32.const {}) (i32.load (i32.const {})))
         (i32.store (i32.const {}) (i32.load (i32.const {})))",
        RESULT + 8,
        SCRATCH + beyond,
        RESULT + 12,
        SCRATCH + beyond + 4
    ))
}

#[tokio::test]
async fn state_reads_what_is_stored_and_writes_are_held_back() {
    let bed = Bed::new();
    bed.host.stored.lock().expect("ours alone").insert("k".to_owned(), b"stored".to_vec());
    let key = "(data (i32.const 16) \"k\")";
    let get = format!("(call $get (i32.const 16) (i32.const 1) (i32.const {SCRATCH}))");
    let reads = returns_answer(&get, 8).importing(&guests::state_get()).with_fields(key);
    assert_eq!(output(&bed.run(reads.text()).await), b"stored");

    let set = "(call $set (i32.const 16) (i32.const 1) (i32.const 16) (i32.const 1)
        (i32.const 0) (i64.const 0) (i32.const 1024))";
    let writes = Guest::that(set).importing(&guests::state_set()).with_fields(key);
    let report = bed.run(writes.text()).await;
    let Outcome::Returned { effects, .. } = &report.outcome else { panic!("{:?}", report.outcome) };
    let written: Vec<_> = effects.writes().map(|(key, write)| (key.as_str(), write.clone())).collect();
    assert_eq!(written, [("k", StateWrite::Set { value: b"k".to_vec(), ttl: None })]);
    assert_eq!(bed.host.stored.lock().expect("ours alone")["k"], b"stored");
}

#[tokio::test]
async fn a_store_that_is_away_is_an_answer_not_an_end() {
    let bed = Bed::new();
    bed.host.set_mood(Mood::Refuses);
    let get = format!("(call $get (i32.const 16) (i32.const 1) (i32.const {SCRATCH}))");
    let key = "(data (i32.const 16) \"k\")";
    let guest = returns_answer(&get, 8).importing(&guests::state_get()).with_fields(key);
    assert_eq!(output(&bed.run(guest.text()).await), b"the store is away");
}

#[tokio::test]
async fn a_store_that_never_answers_is_given_up() {
    let mut config = super::bed::config();
    config.deadlines.state = Duration::from_millis(20);
    let bed = Bed::with(config);
    bed.host.set_mood(Mood::Silent);
    let get = format!("(call $get (i32.const 16) (i32.const 1) (i32.const {SCRATCH}))");
    let key = "(data (i32.const 16) \"k\")";
    let guest = returns_answer(&get, 8).importing(&guests::state_get()).with_fields(key);
    assert_eq!(output(&bed.run(guest.text()).await), b"no answer within 20ms");
}

#[tokio::test]
async fn a_secret_is_had_if_it_is_granted_and_else_the_line_to_add() {
    let bed = Bed::new();
    let get = format!("(call $secret (i32.const 16) (i32.const 5) (i32.const {SCRATCH}))");
    let guest = |beyond| {
        returns_answer(&get, beyond)
            .importing(&guests::secret())
            .with_fields("(data (i32.const 16) \"TOKEN\")")
    };
    let secrets = BTreeMap::from([("TOKEN".to_owned(), Secret::new("open sesame".to_owned()))]);
    let granted = bed.load_granted(guest(4).text(), Grants { secrets, ..Grants::default() });
    let report = bed.start(&granted, budget(), Abort::new()).await;
    assert_eq!(output(&report), b"open sesame");
    assert!(!format!("{:?}", granted.grants()).contains("sesame"));

    // The error's text lies behind which error it is.
    let report = bed.run(guest(8).text()).await;
    assert_eq!(
        String::from_utf8_lossy(output(&report)),
        "secret `TOKEN` is not granted; add `secrets = [\"TOKEN\"]` under [grants] of plugin acme/guest"
    );
}

#[tokio::test]
async fn only_granted_environment_variables_are_there() {
    let bed = Bed::new();
    // Returns as many bytes as there are variables.
    let body = format!(
        "(call $env (i32.const {SCRATCH})) (i32.store (i32.const {}) (i32.load (i32.const {})))",
        RESULT + 12,
        SCRATCH + 4
    );
    let guest = Guest::that(&body).importing(&guests::environment()).text();
    assert_eq!(output(&bed.run(guest.clone()).await).len(), 0);
    let env = ["A", "B"].map(|name| (name.to_owned(), EnvValue::Plain("1".to_owned()))).to_vec();
    let plugin = bed.load_granted(guest, Grants { env, ..Grants::default() });
    assert_eq!(output(&bed.start(&plugin, budget(), Abort::new()).await).len(), 2);
}

#[tokio::test]
async fn a_directory_that_is_gone_is_no_fault_of_the_host() {
    let bed = Bed::new();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let dirs = vec![sandhog_engine::DirGrant {
        host: folder.path().to_owned(),
        guest: "/data".to_owned(),
        access: sandhog_engine::Access::Read,
        quota: None,
    }];
    let plugin = bed.load_granted(guests::echo(), Grants { dirs, ..Grants::default() });
    assert!(plugin.has_its_directories());
    fs::remove_dir(folder.path()).expect("it is empty");
    assert_eq!(output(&bed.start(&plugin, budget(), Abort::new()).await), b"payload");
    assert!(!plugin.has_its_directories());
    fs::create_dir(folder.path()).expect("a folder");
    assert!(!plugin.has_its_directories(), "it is another one");
}

#[tokio::test]
async fn what_is_printed_goes_to_the_log() {
    let bed = Bed::new();
    let [streams, stdout] = guests::stdout();
    let text = "(data (i32.const 16) \"hello\\nworld\")";
    let prints = "(call $print (call $out) (i32.const 16) (i32.const 11) (i32.const 1024))";
    let guest = Guest::that(prints).importing(&streams).importing(&stdout).with_fields(text);
    assert_eq!(output(&bed.run(guest.text()).await), b"");
    let expected = [(Level::Info, "hello".to_owned()), (Level::Info, "world".to_owned())];
    assert_eq!(bed.host.lines(), expected);
}
