//! The machine code of a plugin: at hand, or left in the cache until it is first wanted.
//!
//! Of a thousand plugins that are deployed, a day sees a few dozen used. What is only deployed costs an open file and
//! some hundred bytes; loading it takes well under a millisecond, once.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::cache::Artefact;
use crate::imports::{HandlerPre, RunState};
use crate::load::Link;

/// The machine code of a plugin.
pub(crate) struct Code {
    pre: OnceLock<HandlerPre<RunState>>,
    aside: Mutex<Option<Aside>>,
}

/// Code that was left in the cache, and what links it.
struct Aside {
    artefact: Artefact,
    link: Arc<Link>,
}

impl Code {
    /// Code that can run.
    pub(crate) fn at_hand(pre: HandlerPre<RunState>) -> Self {
        Self { pre: OnceLock::from(pre), aside: Mutex::new(None) }
    }

    /// Code that is loaded when it is first wanted.
    pub(crate) fn aside(artefact: Artefact, link: Arc<Link>) -> Self {
        Self { pre: OnceLock::new(), aside: Mutex::new(Some(Aside { artefact, link })) }
    }

    /// The code, if it is at hand.
    pub(crate) fn get(&self) -> Option<&HandlerPre<RunState>> {
        self.pre.get()
    }

    /// Sees to it that it is at hand. Blocks, some milliseconds if it is large.
    ///
    /// # Errors
    /// If the artefact was lost or damaged since it was deployed.
    pub(crate) fn load(&self) -> Result<(), String> {
        // Nothing that is done under the lock leaves anything half done.
        let mut aside = self.aside.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Aside { artefact, link }) = &*aside else { return Ok(()) };
        let component = artefact.load(link.engine())?;
        let pre = link.link(&component).map_err(|problems| problems.join("; "))?;
        // Whoever loads holds the lock, and has found it empty.
        let _ = self.pre.set(pre);
        *aside = None;
        Ok(())
    }
}
