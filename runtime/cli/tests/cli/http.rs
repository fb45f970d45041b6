//! The interface over the network, of a daemon as a process.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::site::Site;

/// A daemon that listens; killed when this is dropped.
pub(crate) struct Daemon {
    child: Child,
    log: BufReader<std::process::ChildStderr>,
    pub(crate) address: String,
}

impl Daemon {
    pub(crate) fn start(site: &Site, command: &str) -> Self {
        let mut command = site.command(&[command, "--log-format", "json"]);
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the command starts");
        let log = BufReader::new(child.stderr.take().expect("it is piped"));
        let mut daemon = Self { child, log, address: String::new() };
        let listening: Value =
            serde_json::from_str(&daemon.wait_for("listening for requests")).expect("JSON");
        daemon.address = listening["address"].as_str().expect("an address").to_owned();
        daemon
    }

    /// Returns the next line of the log with this text.
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        let mut read = String::new();
        loop {
            let mut line = String::new();
            assert!(self.log.read_line(&mut line).expect("the log is text") > 0, "no `{text}`:\n{read}");
            if line.contains(text) {
                return line;
            }
            read += &line;
        }
    }

    /// Sends a request over a connection of its own. Returns status and body.
    fn ask(&self, request: &str, token: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        let length = body.len();
        write!(
            stream,
            "{request} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        )
        .expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        let (head, body) = answer.split_once("\r\n\r\n").expect("it has a head");
        (head[9..12].parse().expect("a status"), body.to_owned())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Makes a token, and returns it with its TOML.
pub(crate) fn token(site: &Site, arguments: &[&str]) -> (String, String) {
    let said = site.run(&[&["token", "new", "--json"], arguments].concat());
    let document: Value = serde_json::from_str(&said.out).expect("JSON");
    let text = |key: &str| document[key].as_str().expect("text").to_owned();
    (text("token"), text("toml"))
}

#[test]
fn jobs_come_in_by_token_and_tokens_come_and_go() {
    let site = Site::new();
    let (producer, of_producer) = token(&site, &["shop", "--role", "produce", "--tenant", "acme"]);
    let (operator, of_operator) = token(&site, &["ops", "--role", "operate", "--tenant", "acme"]);
    site.write("sandhog.toml", "[http]\nlisten = \"127.0.0.1:0\"\ntokens = \"tokens.toml\"\n");
    let tokens = format!("{of_producer}\n{of_operator}").replace("http.tokens", "tokens");
    site.write("tokens.toml", &tokens);
    let mut daemon = Daemon::start(&site, "run");
    daemon.wait_for("ready");
    let job = json!({ "kind": "echo.run", "payload": { "n": 18_446_744_073_709_551_615_u64 } }).to_string();
    let (status, stored) = daemon.ask("POST /v1/jobs", &producer, &job);
    assert_eq!(status, 201, "{stored}");
    let stored: Value = serde_json::from_str(&stored).expect("JSON");
    let id = stored["ids"][0].as_str().expect("an id");
    let (status, job) = daemon.ask(&format!("GET /v1/jobs/{id}?wait=60s"), &operator, "");
    assert!(
        status == 200 && job.contains("\"state\":\"succeeded\"") && job.contains("18446744073709551615"),
        "{job}"
    );
    // What is answered is what the command line prints.
    let printed: Value = serde_json::from_str(&site.run(&["job", "show", "--json", id]).out).expect("JSON");
    assert_eq!(serde_json::from_str::<Value>(&job).expect("JSON"), printed);

    let (status, refused) = daemon.ask(&format!("DELETE /v1/jobs/{id}"), &producer, "");
    assert_eq!(status, 403, "{refused}");
    let line: Value = serde_json::from_str(&daemon.wait_for("sandhog::audit")).expect("JSON");
    assert_eq!((&line["by"], &line["status"]), (&json!("shop"), &json!(403)));
    assert_eq!(daemon.ask(&format!("DELETE /v1/jobs/{id}"), &operator, "").0, 200);
    let line: Value = serde_json::from_str(&daemon.wait_for("sandhog::audit")).expect("JSON");
    assert_eq!(
        (&line["by"], &line["method"], &line["status"]),
        (&json!("ops"), &json!("DELETE"), &json!(200))
    );
    assert_eq!(daemon.ask("GET /readyz", "", "").0, 200);

    site.write("tokens.toml", &of_producer.replace("http.tokens", "tokens"));
    assert_eq!(site.run(&["reload"]).code, 0);
    assert_eq!(daemon.ask("GET /v1/jobs", &operator, "").0, 401, "it is taken back");
    assert_eq!(daemon.ask("GET /v1/jobs", &producer, "").0, 200);
    let sent = Command::new("kill").args(["-TERM", &daemon.child.id().to_string()]).status();
    assert!(sent.expect("kill is there").success());
    assert!(daemon.child.wait().expect("it ends").success());
}

#[test]
fn jobs_come_in_where_none_are_run() {
    let site = Site::new();
    let (token, toml) = token(&site, &["shop", "--role", "operate", "--tenant", "acme"]);
    site.write("sandhog.toml", &format!("[http]\nlisten = \"127.0.0.1:0\"\n{toml}"));
    let mut server = Daemon::start(&site, "serve");
    server.wait_for("ready");
    let (status, stored) = server.ask("POST /v1/jobs", &token, "{\"kind\": \"echo.run\"}");
    assert_eq!(status, 201, "{stored}");
    assert_eq!(site.count("ready"), 1);
    assert_eq!(server.ask("GET /v1/plugins", &token, "").0, 503, "daemons know");
    site.write("sandhog.toml", "[http]\nlisten = \"127.0.0.1:0\"\n");
    let sent = Command::new("kill").args(["-HUP", &server.child.id().to_string()]).status();
    assert!(sent.expect("kill is there").success());
    server.wait_for("the configuration has changed");
    assert_eq!(server.ask("GET /v1/jobs", "", "").0, 200, "there are no tokens any more");
}

#[test]
fn an_open_door_is_refused() {
    let site = Site::new();
    site.write("sandhog.toml", "[http]\nlisten = \"0.0.0.0:0\"\n");
    let said = site.run(&["run"]);
    assert!(said.code != 0 && said.err.contains("neither TLS nor tokens"), "{said:?}");
}

#[test]
fn a_certificate_that_can_not_be_used_is_told_by_the_check() {
    let site = Site::empty();
    let tls = "[http.tls]\ncertificate = \"none.pem\"\nkey = \"none.key\"\n";
    // A table of the broker that says nothing of its type is of an embedded one.
    site.write(
        "sandhog.toml",
        &format!("[broker]\npath = \"jobs.db\"\n[http]\nlisten = \"127.0.0.1:0\"\n{tls}"),
    );
    site.run(&["check"]).fails(1, &["none.key", "http.tls"]);
    site.write("sandhog.toml", "[broker]\npath = \"jobs.db\"\n[http]\nlisten = \"127.0.0.1:0\"\n");
    assert_eq!(site.run(&["check"]).code, 0);
}
