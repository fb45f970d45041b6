//! Granted directories: each is the one that was there when its plugin was loaded, whatever becomes of its path, and no
//! handler has a say in where a path leads.

use std::fs;
use std::os::unix::fs::symlink;

use sandhog_broker::Broker;
use sandhog_core::job::{JobRecord, State};
use sandhog_tests::{Backend, Daemon, Site, component, finished, hog_job, tenant};

const SECRET: &str = "not granted";

/// A site with `granted/room/inside.txt`, and files beside the room that are none of its handlers' business.
fn site() -> Site {
    let site = Site::new(Backend::Embedded, "");
    fs::create_dir_all(site.path().join("granted/room")).expect("folders");
    fs::write(site.path().join("granted/room/inside.txt"), "inside").expect("a file");
    for place in ["granted/secret.txt", "secret.txt"] {
        fs::write(site.path().join(place), SECRET).expect("a file");
    }
    site
}

/// Adds a plugin of handlers that try to get out.
fn with_rogue(site: Site, name: &str, of: &str, kind: &str, host: &str, access: &str) -> Site {
    let dirs = format!("dirs = [{{ host = \"{host}\", guest = \"/data\", access = \"{access}\" }}]");
    let text =
        format!("kinds = [\"{kind}\"]\nqueue = \"hogs\"\n\n[grants]\n{dirs}\n\n[retry]\nmax_attempts = 1");
    site.with_plugin(name, of, &component("rogue"), &text)
}

async fn run(broker: &dyn Broker, kind: &str, payload: &str) -> JobRecord {
    let (acme, job) = (tenant("acme"), hog_job(kind, payload));
    broker.enqueue(&acme, std::slice::from_ref(&job)).await.expect("the broker is up");
    finished(broker, &acme, job.id).await
}

/// What a handler finds in the directory that it was granted.
async fn found(broker: &dyn Broker) -> String {
    let record = run(broker, "rogue.open", r#"["inside.txt", "secret.txt"]"#).await;
    assert_eq!(record.state, State::Succeeded, "{:?}", record.message);
    String::from_utf8(record.output.expect("it succeeded")).expect("JSON")
}

fn assert_nothing_for_the_operator(daemon: &mut Daemon) {
    let errors: Vec<_> =
        daemon.log().iter().filter(|line| line.contains("\"level\":\"ERROR\"")).cloned().collect();
    assert!(errors.is_empty(), "{errors:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_leads_elsewhere_by_now_leads_no_run_there() {
    let site = with_rogue(site(), "reader", "acme", "rogue.open", "../granted/room", "read");
    let (broker, mut daemon) = (site.broker().await, site.daemon());
    let inside = r#"["inside","no-entry"]"#;
    assert_eq!(found(&*broker).await, inside);

    let (room, aside) = (site.path().join("granted/room"), site.path().join("granted/aside"));
    fs::rename(&room, &aside).expect("one disk");
    symlink("..", &room).expect("a link");
    assert_eq!(found(&*broker).await, inside);
    fs::remove_file(&room).expect("it is there");
    symlink(".", &room).expect("a link");
    assert_eq!(found(&*broker).await, inside);
    fs::remove_file(&room).expect("it is there");
    assert_eq!(found(&*broker).await, inside);

    // It is gone, and that is for the handler to deal with.
    fs::remove_dir_all(&aside).expect("it is there");
    assert_eq!(found(&*broker).await, r#"["no-entry","no-entry"]"#);
    assert_nothing_for_the_operator(&mut daemon);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_was_replaced_is_opened_by_the_next_reload() {
    let site = with_rogue(site(), "reader", "acme", "rogue.open", "../granted/room", "read");
    let (broker, mut daemon) = (site.broker().await, site.daemon());
    let room = site.path().join("granted/room");
    fs::remove_dir_all(&room).expect("it is there");
    let gone = site.sandhog(&["reload"]);
    assert!(!gone.status.success());
    let standing = site.standing("reader");
    assert!(standing["state"] == "failed" && standing.to_string().contains("No such file"), "{standing}");

    fs::create_dir(&room).expect("a folder");
    fs::write(room.join("inside.txt"), "new").expect("a file");
    assert!(site.sandhog(&["reload"]).status.success());
    assert_eq!(found(&*broker).await, r#"["new","no-entry"]"#);
    assert_nothing_for_the_operator(&mut daemon);
}

/// While handlers of one plugin swap the room for a link to its parent as fast as they can, another one is to be granted
/// the room.
#[tokio::test(flavor = "multi_thread")]
async fn no_plugin_gets_a_directory_whose_path_the_handlers_of_another_can_change() {
    let site = with_rogue(site(), "writer", "acme", "rogue.race", "../granted", "read-write");
    let (broker, mut daemon) = (site.broker().await, site.daemon());
    let acme = tenant("acme");
    let races: Vec<_> = (0..8).map(|_| hog_job("rogue.race", r#"{"rounds": 2000}"#)).collect();
    broker.enqueue(&acme, &races).await.expect("the broker is up");

    for access in ["read", "read-write"] {
        let site = &site;
        let dirs =
            format!("dirs = [{{ host = \"../granted/room\", guest = \"/data\", access = \"{access}\" }}]");
        let text = format!(
            "[plugin]\nname = \"reader\"\ntenant = \"globex\"\ncomponent = \"{}\"\nkinds = [\"rogue.open\"]\n\n[grants]\n{dirs}\n",
            component("rogue").display()
        );
        site.write("plugins.d/reader.toml", text.as_bytes());
        let reload = site.sandhog(&["reload"]);
        let said = String::from_utf8_lossy(&[reload.stdout, reload.stderr].concat()).into_owned();
        assert!(!reload.status.success(), "{said}");
        for part in
            ["plugin globex/reader: can't grant", "plugin acme/writer may write", "keep the two apart"]
        {
            assert!(said.contains(part), "`{part}` isn't in: {said}");
        }
    }
    for race in races {
        let record = finished(&*broker, &acme, race.id).await;
        // It sees its own directory, and nothing above it.
        assert!(record.output.is_none_or(|output| !String::from_utf8_lossy(&output).contains(SECRET)));
    }
    assert_nothing_for_the_operator(&mut daemon);
    let check = site.sandhog(&["check"]);
    let said = String::from_utf8_lossy(&check.stderr).into_owned();
    assert!(!check.status.success() && said.contains("plugin acme/writer may write"), "{said}");
}
