//! Users, passwords and TLS.

use sandhog_broker::redis::testing::{Durability, Server};
use sandhog_broker::redis::{Config, Redis};
use sandhog_broker::{Broker, Error, Wake};
use sandhog_core::id::TenantId;
use tokio::time::timeout;

use crate::work::{PATIENCE, Work, connection, jobs, tenant};

fn at(url: String) -> Redis {
    Redis::new(&Config::new(url)).expect("the url is right")
}

async fn works(broker: &Redis, tenant: &TenantId) {
    broker.store(tenant, &jobs(3)).await;
    let leases = broker.take(tenant, 3).await;
    broker.finish(tenant, &leases).await;
    assert_eq!(broker.counts(tenant).await.expect("the server is there"), [0, 0, 0, 3, 0, 0]);
    let mut wakes = broker.wakes(vec![tenant.clone()]).await.expect("listening waits for nothing");
    assert_eq!(timeout(PATIENCE, wakes.next()).await.expect("it listens"), Some(Wake::All));
}

/// The pattern of keys and channels is all that fences a tenant in.
#[tokio::test]
async fn a_user_can_be_fenced_into_one_tenant() {
    let server = Server::start(Durability::None, &[]);
    let (mine, other) = (tenant(), tenant());
    let (keys, channels) = (format!("~sandhog:{{{mine}}}:*"), format!("&sandhog:{{{mine}}}:*"));
    let rule = ["SETUSER", "worker", "on", ">p@ss:word", &keys, &channels, "+@all", "-@dangerous", "-@admin"];
    let command = redis::cmd("ACL").arg(&rule[..]).to_owned();
    let () = command.query_async(&mut connection(&server).await).await.expect("the server is there");

    let broker = at(server.url().replace("//", "//worker:p%40ss%3Aword@"));
    works(&broker, &mine).await;
    match broker.enqueue(&other, &jobs(1)).await {
        Err(Error::Unfit { problem }) => assert!(problem.contains("the user may not do this"), "{problem}"),
        other => panic!("it is fenced: {other:?}"),
    }
}

#[tokio::test]
async fn a_wrong_password_is_told_and_not_shown() {
    let server = Server::start(Durability::None, &["--requirepass", "hunter2"]);
    works(&at(server.url().replace("//", "//:hunter2@")), &tenant()).await;
    for login in ["", ":hunter3@", "nobody:hunter2@"] {
        let error =
            at(server.url().replace("//", &format!("//{login}"))).check().await.expect_err("it is wrong");
        assert!(matches!(error, Error::Unfit { .. }), "{error}");
        let text = format!("{error} {error:?}");
        assert!(text.contains("the login was refused") && !text.contains("hunter"), "{text}");
    }
}

/// Made for these tests: it vouches for a server on 127.0.0.1 whose key everybody can read here.
const AUTHORITY: &[u8] = include_bytes!("tls/authority.pem");

fn tls_server() -> Server {
    let file = |name: &str| format!("{}/tests/redis/tls/{name}", env!("CARGO_MANIFEST_DIR"));
    let (certificate, key, authority) = (file("server.pem"), file("server.key"), file("authority.pem"));
    Server::start_with_tls(&[
        "--tls-cert-file",
        &certificate,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &authority,
        "--tls-auth-clients",
        "no",
    ])
}

#[tokio::test]
async fn a_server_is_reached_by_tls_if_its_authority_is_trusted() {
    let server = tls_server();
    let trusting = Config { authority: Some(AUTHORITY.to_vec()), ..Config::new(server.url()) };
    works(&Redis::new(&trusting).expect("the certificate is right"), &tenant()).await;

    let error = at(server.url()).check().await.expect_err("nobody has told it to trust that authority");
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[tokio::test]
async fn an_authority_that_is_no_certificate_is_refused_at_once() {
    let config = Config { authority: Some(b"nonsense".to_vec()), ..Config::new("rediss://127.0.0.1") };
    let error = Redis::new(&config).expect_err("it is nonsense");
    assert!(matches!(error, Error::Unfit { .. }), "{error}");
}
