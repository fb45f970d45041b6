//! Whose connections a fault is about.

use rand::RngExt;
use rand::rngs::StdRng;
use sandhog_tests::Proxy;

use crate::world::World;

/// Whose connections.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Whose {
    Daemon(usize),
    /// Those of producers and holders as well.
    Everybody,
}

impl Whose {
    /// Most are one daemon's.
    pub(crate) fn random(r: &mut StdRng, daemons: usize) -> Self {
        if r.random_bool(0.6) { Self::Daemon(r.random_range(0..daemons)) } else { Self::Everybody }
    }

    /// The daemons among them.
    pub(crate) fn daemons(self, world: &World) -> Vec<usize> {
        match self {
            Self::Daemon(nth) => vec![nth],
            Self::Everybody => (0..world.daemons.len()).collect(),
        }
    }

    /// Their ways.
    pub(crate) fn ways(self, world: &World) -> Vec<&Proxy> {
        let of_daemons = self.daemons(world).into_iter().filter_map(|nth| world.daemons[nth].way.as_ref());
        let of_others = world.way.as_ref().filter(|_| matches!(self, Self::Everybody));
        of_daemons.chain(of_others).collect()
    }
}
