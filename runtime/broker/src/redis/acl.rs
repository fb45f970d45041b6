//! What a user of the server has to be allowed to work for one tenant, and not a command or a key more.
//!
//! It may call functions and load none: whoever could, could give those of all tenants another meaning. The operator's own
//! login loads them.

use sandhog_core::id::TenantId;

use super::keys;

/// What connections send by themselves. The login needs no permission.
const CONNECTION: [&str; 5] = ["fcall", "hello", "ping", "select", "subscribe"];

/// What functions call, each with arguments. The server checks each call, with its keys.
const CALLS: [&str; 31] = [
    "del key",
    "exists key",
    "expire key 0",
    "get key",
    "getrange key 0 0",
    "hdel key 0",
    "hget key 0",
    "hgetall key",
    "hmget key 0",
    "hset key 0 0",
    "lrange key 0 0",
    "ltrim key 0 0",
    "mget key",
    "mset key 0",
    "msetnx key 0",
    "publish channel 0",
    "rpush key 0",
    "sadd key 0",
    "set key 0",
    "sismember key 0",
    "smembers key",
    "srem key 0",
    "strlen key",
    "time",
    "unlink key",
    "zadd key 0 0",
    "zcard key",
    "zrange key 0 0",
    "zrem key 0",
    "zremrangebyrank key 0 0",
    "zscore key 0",
];

/// A call of each command that functions call: on a key of the tenant, or on its channel.
pub(super) fn calls(tenant: &TenantId) -> Vec<Vec<String>> {
    let word = |word: &str| match word {
        "key" => keys::never(tenant),
        "channel" => keys::wake(tenant),
        other => other.to_owned(),
    };
    CALLS.iter().map(|call| call.split(' ').map(word).collect()).collect()
}

/// The commands that functions call.
fn commands() -> impl Iterator<Item = &'static str> {
    CALLS.iter().filter_map(|call| call.split(' ').next())
}

/// The rules of `ACL SETUSER` for a user that works for this tenant: its keys, its channel, and the commands that the
/// broker uses. They take away whatever the user was allowed before, and leave passwords alone.
///
/// `INFO` and `CONFIG GET` are not among them: they tell of the whole server. Without them [`crate::Broker::check`]
/// says that it could not look.
#[must_use]
pub fn acl_rules(tenant: &TenantId) -> Vec<String> {
    let prefix = keys::prefix(tenant);
    let mut rules: Vec<String> = ["on", "clearselectors", "resetkeys"].map(str::to_owned).into();
    rules.push(format!("~{prefix}*"));
    rules.push("resetchannels".to_owned());
    rules.push(format!("&{}", keys::wake(tenant)));
    rules.push("-@all".to_owned());
    rules.extend(CONNECTION.into_iter().chain(commands()).map(|command| format!("+{command}")));
    rules
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    /// The texts of files in a folder whose names end like this.
    fn texts(folder: &str, extension: &str) -> Vec<String> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        let files =
            fs::read_dir(folder).expect("the folder is there").map(|file| file.expect("a file").path());
        let files = files.filter(|path| path.extension().is_some_and(|found| found == extension));
        files.map(|path| fs::read_to_string(path).expect("a text")).collect()
    }

    /// The words that follow these openings, up to the closing mark.
    fn words<'t>(text: &'t str, openings: &'t [&str], close: char) -> impl Iterator<Item = String> + 't {
        let after = openings.iter().flat_map(|opening| text.split(*opening).skip(1));
        after.filter_map(move |rest| Some(rest.split_once(close)?.0.to_lowercase()))
    }

    #[test]
    fn every_command_of_the_scripts_is_allowed_and_no_other() {
        let openings =
            ["call('", "list('", "list_of_many('", "try('", "values('", "value('", "pair('", "need('"];
        let used: BTreeSet<String> = texts("src/redis/lua", "lua")
            .iter()
            .flat_map(|text| words(text, &openings, '\'').collect::<Vec<_>>())
            .collect();
        assert_eq!(used, commands().map(str::to_owned).collect());
    }

    #[test]
    fn every_command_outside_scripts_is_allowed_but_for_those_that_tell_of_the_server() {
        let allowed = |word: &String| {
            let of_group = |command: &&str| command.split('|').next() == Some(word.as_str());
            CONNECTION.into_iter().chain(commands()).any(|command| of_group(&command))
        };
        let sources = texts("src/redis", "rs");
        let sent = sources.iter().flat_map(|text| words(text, &["redis::cmd(\""], '"').collect::<Vec<_>>());
        let not_allowed: BTreeSet<String> = sent.filter(|word| !allowed(word)).collect();
        // The operator loads functions, and purges tenants; scripts are loaded by users that earlier versions have made; the last
        // one goes to sentinels, which have users of their own.
        let others = ["cluster", "config", "function", "info", "scan", "script", "sentinel"];
        assert_eq!(not_allowed, others.map(str::to_owned).into());
    }

    #[test]
    fn the_rules_name_the_tenants_keys_and_channel() {
        let rules = acl_rules(&TenantId::parse("acme").expect("a valid name"));
        for rule in ["~sandhog:{acme}:*", "&sandhog:{acme}:wake", "-@all", "+fcall"] {
            assert!(rules.iter().any(|known| known == rule), "{rule}");
        }
    }
}
