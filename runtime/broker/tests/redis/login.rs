//! Users, passwords and TLS.

use sandhog_broker::redis::testing::{Cluster, Durability, Sentinels, Server};
use sandhog_broker::redis::{Config, Login, Redis, Role, acl_rules};
use sandhog_broker::{Broker, Counts, Error, Wake};
use sandhog_core::id::TenantId;
use sandhog_core::job::State;
use tokio::time::timeout;

use crate::work::{PATIENCE, Work, connection, jobs, tenant};

fn at(url: String) -> Redis {
    Redis::new(&Config::new(url)).expect("the url is right")
}

async fn works(broker: &Redis, tenant: &TenantId) {
    broker.store(tenant, &jobs(3)).await;
    let leases = broker.take(tenant, 3).await;
    broker.finish(tenant, &leases).await;
    assert_eq!(
        broker.counts(tenant).await.expect("the server is there"),
        Counts::of(&[(State::Succeeded, 3)])
    );
    let mut wakes = broker.watch(vec![tenant.clone()]).await.expect("listening waits for nothing");
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

/// The rules that operators get, for a user of the tenant's name.
fn user_of(tenant: &TenantId) -> (Vec<String>, Login) {
    let login = Login { username: tenant.to_string(), password: "p@ss:word".to_owned() };
    let head = ["ACL", "SETUSER", &login.username, ">p@ss:word"].map(str::to_owned);
    (head.into_iter().chain(acl_rules(tenant, Role::Worker)).collect(), login)
}

#[tokio::test]
async fn a_tenants_own_user_is_enough_to_be_led_through_a_cluster() {
    let cluster = Cluster::shared();
    // On all nodes, so that most are led from the one that is asked first to another.
    for tenant in std::iter::repeat_with(tenant).take(6) {
        let (command, login) = user_of(&tenant);
        cluster.tell_all(&command.iter().map(String::as_str).collect::<Vec<_>>());
        let config = Config { login: Some(login), ..cluster.config() };
        let operator = Redis::new(&cluster.config()).expect("the url is right");
        let broker = Redis::of_tenant(&config, tenant.clone(), Some(&operator)).expect("the url is right");
        works(&broker, &tenant).await;
    }
}

#[tokio::test]
async fn a_tenants_own_user_is_enough_to_find_a_primary_by_its_sentinels() {
    let (servers, tenant) = (Sentinels::shared(), tenant());
    let (command, login) = user_of(&tenant);
    servers.tell_all(&command.iter().map(String::as_str).collect::<Vec<_>>());
    let config = Config { login: Some(login), ..servers.config() };
    let operator = Redis::new(&servers.config()).expect("the urls are right");
    let broker = Redis::of_tenant(&config, tenant.clone(), Some(&operator)).expect("the urls are right");
    works(&broker, &tenant).await;
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
