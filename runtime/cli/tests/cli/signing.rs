//! Keys, signatures, and tenants that demand them.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use sandhog_guests::{ECHO, TRAP};

use crate::site::{Site, component};

/// A site with a key of Ann's in `ann.pem`, whose tenant `acme` takes nothing but what she has signed. And her key.
fn site() -> (Site, String) {
    let site = Site::new();
    let ann = key(&site, "ann.pem");
    site.write("sandhog.toml", &format!("[tenants.acme]\nsigners = [\"{ann}\"]\n"));
    (site, ann)
}

fn key(site: &Site, file: &str) -> String {
    let document = site.json(&["plugin", "key", file]);
    assert_eq!(document["file"], file);
    document["signer"].as_str().expect("a text").to_owned()
}

fn sign(site: &Site, key: &str) {
    let document =
        site.json(&["plugin", "sign", "plugins.d/echo.wasm", "--plugin", "acme/echo", "--key", key]);
    assert_eq!(document["signature"], "plugins.d/echo.wasm.sig");
}

const CHECK: [&str; 2] = ["check", "--offline"];

#[test]
fn a_tenant_that_names_signers_takes_only_what_they_have_signed() {
    let (site, ann) = site();
    site.run(&CHECK).fails(
        1,
        &[
            "plugin acme/echo",
            "is not signed",
            "sandhog plugin sign plugins.d/echo.wasm --plugin acme/echo --key",
        ],
    );
    sign(&site, "ann.pem");
    assert_eq!(site.run(&CHECK).code, 0);

    site.write("plugins.d/echo.wasm", &component(TRAP));
    site.run(&CHECK).fails(1, &["plugin acme/echo", "it was changed since it was signed", "echo.wasm.sig"]);
    site.run(&["run", "--strict"]).fails(1, &["it was changed since it was signed"]);

    let bob = key(&site, "bob.pem");
    sign(&site, "bob.pem");
    site.run(&CHECK).fails(1, &["plugin acme/echo", &bob, "none of its tenant's signers"]);
    site.write("sandhog.toml", &format!("[tenants.acme]\nsigners = [\"{ann}\", \"{bob}\"]\n"));
    assert_eq!(site.run(&CHECK).code, 0);
}

#[test]
fn a_signature_of_another_component_or_for_another_plugin_is_of_no_use() {
    let (site, ann) = site();
    sign(&site, "ann.pem");
    let signature = fs::read_to_string(site.path("plugins.d/echo.wasm.sig")).expect("it is there");
    site.write("plugins.d/echo.wasm", &component(TRAP));
    site.run(&CHECK).fails(1, &["plugin acme/echo", "it was changed since it was signed"]);
    // Bob's, in Ann's name.
    key(&site, "bob.pem");
    sign(&site, "bob.pem");
    let by_bob = fs::read_to_string(site.path("plugins.d/echo.wasm.sig")).expect("it is there");
    let signed: serde_json::Value = serde_json::from_str(&by_bob).expect("JSON");
    let bob = signed["signatures"][0]["keyid"].as_str().expect("a text");
    site.write("plugins.d/echo.wasm.sig", &by_bob.replace(bob, &ann));
    site.run(&CHECK).fails(1, &["plugin acme/echo", "forged or damaged"]);
    for wrong in ["garbage", &signature.replace("payloadType", "type")] {
        site.write("plugins.d/echo.wasm.sig", wrong);
        site.run(&CHECK).fails(1, &["plugin acme/echo", "is not a signature"]);
    }
    let of = |plugin: &'static str| {
        ["plugin", "sign", "plugins.d/echo.wasm", "--plugin", plugin, "--key", "ann.pem"]
    };
    for plugin in ["acme/other", "globex/echo"] {
        site.json(&of(plugin));
        site.run(&CHECK).fails(1, &["is for plugin", plugin, "and this is acme/echo"]);
    }
    site.run(&of("echo")).fails(2, &["TENANT/PLUGIN"]);
}

#[test]
fn a_signature_ends_when_it_says() {
    let (site, _) = site();
    let sign = |expires: &'static str| {
        let sign = ["plugin", "sign", "plugins.d/echo.wasm", "--plugin", "acme/echo", "--key", "ann.pem"];
        site.json(&[&sign[..], &["--expires", expires]].concat())
    };
    assert_eq!(sign("2020-01-01T00:00:00Z")["expires"], "2020-01-01T00:00:00Z");
    site.run(&CHECK).fails(1, &["was right until 2020-01-01T00:00:00Z"]);
    sign("90d");
    assert_eq!(site.run(&CHECK).code, 0);
}

#[test]
fn inspecting_shows_who_has_signed_and_whether_a_tenant_takes_it() {
    let (site, ann) = site();
    let inspect = ["plugin", "inspect", "plugins.d/echo.wasm"];
    let with_tenant = [&inspect[..], &["--tenant", "acme"]].concat();
    assert_eq!(site.json(&inspect)["signature"]["signer"], serde_json::Value::Null);
    let said = site.run(&with_tenant);
    assert!(said.code == 1 && said.out.contains("nobody") && said.out.contains("is not signed"), "{said:?}");
    // Which plugin of the tenant it is for isn't known.
    assert!(said.out.contains("--plugin acme/PLUGIN --key KEY"), "{said:?}");
    sign(&site, "ann.pem");
    let document = site.json(&with_tenant);
    assert_eq!(
        (&document["signature"]["signer"], &document["signature"]["trusted"]),
        (&ann.as_str().into(), &true.into())
    );
    assert_eq!(document["signature"]["plugin"], "acme/echo");
    site.write("plugins.d/echo.wasm", &component(&format!("{ECHO} nop")));
    let said = site.run(&inspect);
    assert!(said.code == 0 && said.out.contains("it was changed since it was signed"), "{said:?}");
    site.run(&[&inspect[..], &["--tenant", "globex"]].concat()).fails(1, &["no tenant `globex`", "acme"]);
}

#[test]
fn keys_are_kept_from_others_and_never_overwritten() {
    let (site, _) = site();
    let mode = fs::metadata(site.path("ann.pem")).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    site.run(&["plugin", "key", "ann.pem"]).fails(1, &["ann.pem is there already"]);
    fs::set_permissions(site.path("ann.pem"), fs::Permissions::from_mode(0o644)).expect("ours");
    site.run(&["plugin", "sign", "plugins.d/echo.wasm", "--plugin", "acme/echo", "--key", "ann.pem"])
        .fails(1, &["chmod 600"]);
    site.run(&["plugin", "sign", "plugins.d/echo.wasm", "--plugin", "acme/echo", "--key", "none"])
        .fails(1, &["sandhog plugin key FILE"]);
}

#[test]
fn signers_that_are_none_are_mistakes_of_the_configuration() {
    let site = Site::new();
    for (signers, says) in [
        ("[]", "no component could be loaded"),
        ("[\"ann\"]", "it doesn't begin with `ed25519:`"),
        ("[\"ed25519:AAAA\"]", "an ed25519 key has 32 bytes"),
        ("\"ed25519:AAAA\"", "is not a list"),
    ] {
        site.write("sandhog.toml", &format!("[tenants.acme]\nsigners = {signers}\n"));
        site.run(&CHECK).fails(64, &["tenants.acme.signers", says]);
    }
}
