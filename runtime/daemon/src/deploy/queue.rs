//! Queue of deploys, which decides which go on, and which wait: pure.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use sandhog_core::outcome::StopReason;
use sandhog_engine::Abort;

use super::slot::Key;

/// Queue of the deploys that are wanted. At most one goes on for each plugin, and at most `places` in all, of which one tenant
/// can't have every place if there are several. `T` is what is wanted of a plugin.
pub(super) struct Queue<T> {
    places: usize,
    waiting: VecDeque<(Key, T)>,
    running: BTreeMap<Key, Running<T>>,
}

/// Deploy that goes on.
struct Running<T> {
    wanted: T,
    /// Handle that aborts its smoke run.
    abort: Abort,
    /// Whether its result is not wanted any more.
    is_superseded: bool,
}

impl<T> Running<T> {
    fn supersede(&mut self) {
        self.is_superseded = true;
        self.abort.stop(StopReason::Cancelled);
    }
}

impl<T: Clone + PartialEq> Queue<T> {
    /// Creates an empty queue.
    pub(super) fn new(places: usize) -> Self {
        Self { places, waiting: VecDeque::new(), running: BTreeMap::new() }
    }

    /// Queues a deploy of a plugin, unless the same goes on already, and drops any other of it.
    pub(super) fn want(&mut self, key: Key, wanted: T) {
        if self.running.get(&key).is_some_and(|running| !running.is_superseded && running.wanted == wanted) {
            self.waiting.retain(|(waiting, _)| *waiting != key);
            return;
        }
        self.forget(&key);
        self.waiting.push_back((key, wanted));
    }

    /// Drops all deploys of a plugin.
    pub(super) fn forget(&mut self, key: &Key) {
        self.waiting.retain(|(waiting, _)| waiting != key);
        if let Some(running) = self.running.get_mut(key) {
            running.supersede();
        }
    }

    /// Deploys that are wanted and not completed yet.
    pub(super) fn wanted(&self) -> impl Iterator<Item = (&Key, &T)> {
        let running = self.running.iter().filter(|(_, running)| !running.is_superseded);
        let running = running.map(|(key, running)| (key, &running.wanted));
        self.waiting.iter().map(|(key, wanted)| (key, wanted)).chain(running)
    }

    /// Starts the next deploy that can begin. Returns it with the handle that aborts its smoke run. Plugins that are
    /// `held_back` can't begin.
    pub(super) fn begin(&mut self, held_back: &BTreeSet<Key>) -> Option<(Key, T, Abort)> {
        if self.running.len() >= self.places {
            return None;
        }
        let of_tenant_max = self.places.saturating_sub(1).max(1);
        let may_begin = |(key, _): &(Key, T)| {
            let of_tenant = self.running.keys().filter(|(tenant, _)| *tenant == key.0).count();
            of_tenant < of_tenant_max && !self.running.contains_key(key) && !held_back.contains(key)
        };
        let next = self.waiting.iter().position(may_begin)?;
        let (key, wanted) = self.waiting.remove(next)?;
        let abort = Abort::new();
        let running = Running { wanted: wanted.clone(), abort: abort.clone(), is_superseded: false };
        self.running.insert(key.clone(), running);
        Some((key, wanted, abort))
    }

    /// Records that a deploy has ended. Returns what it was for, if that is still wanted.
    pub(super) fn ended(&mut self, key: &Key) -> Option<T> {
        let running = self.running.remove(key)?;
        (!running.is_superseded).then_some(running.wanted)
    }
}

#[cfg(test)]
mod tests {
    use sandhog_core::id::{PluginName, TenantId};

    use super::*;

    fn key(name: &str) -> Key {
        let (tenant, plugin) = name.split_once('/').expect("a full name");
        (TenantId::parse(tenant).expect("valid"), PluginName::parse(plugin).expect("valid"))
    }

    fn begun(queue: &mut Queue<u8>) -> Vec<(Key, u8)> {
        let begun = std::iter::from_fn(|| queue.begin(&BTreeSet::new()));
        begun.map(|(key, wanted, _)| (key, wanted)).collect()
    }

    #[test]
    fn one_tenant_leaves_a_place_to_the_others_and_a_plugin_has_one_deploy_at_a_time() {
        let mut queue = Queue::new(3);
        for name in ["acme/a", "acme/b", "acme/c", "globex/a", "globex/b"] {
            queue.want(key(name), 1);
        }
        assert_eq!(begun(&mut queue), [(key("acme/a"), 1), (key("acme/b"), 1), (key("globex/a"), 1)]);
        queue.want(key("globex/a"), 2);
        assert_eq!(queue.ended(&key("acme/a")), Some(1));
        assert_eq!(begun(&mut queue), [(key("acme/c"), 1)]);
        assert_eq!(queue.ended(&key("globex/a")), None, "something else is wanted by now");
        assert_eq!(begun(&mut queue), [(key("globex/b"), 1)]);
        assert_eq!(queue.ended(&key("globex/b")), Some(1));
        assert_eq!(begun(&mut queue), [(key("globex/a"), 2)]);
    }

    #[test]
    fn what_goes_on_already_is_not_begun_again_and_what_is_not_wanted_is_ended() {
        let mut queue = Queue::new(1);
        queue.want(key("acme/a"), 1);
        let (_, _, abort) = queue.begin(&BTreeSet::new()).expect("there is room");
        queue.want(key("acme/a"), 1);
        assert!(abort.stopped().is_none() && queue.wanted().count() == 1);
        queue.want(key("acme/a"), 2);
        assert_eq!(abort.stopped(), Some(StopReason::Cancelled));
        assert_eq!(queue.wanted().collect::<Vec<_>>(), [(&key("acme/a"), &2)]);
        queue.forget(&key("acme/a"));
        assert_eq!((queue.wanted().count(), queue.ended(&key("acme/a"))), (0, None));
    }

    #[test]
    fn what_is_held_back_waits_and_lets_others_go_first() {
        let mut queue = Queue::new(1);
        queue.want(key("acme/a"), 1);
        queue.want(key("acme/b"), 1);
        let held = BTreeSet::from([key("acme/a")]);
        assert_eq!(queue.begin(&held).map(|(key, ..)| key), Some(key("acme/b")));
        assert_eq!(queue.ended(&key("acme/b")), Some(1));
        assert!(queue.begin(&held).is_none() && queue.begin(&BTreeSet::new()).is_some());
    }
}
