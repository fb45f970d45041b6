//! The machine code of a plugin: at hand, or left in the cache until it is first wanted.
//!
//! Of a thousand plugins that are deployed, a day sees a few dozen used. What is only deployed costs an open file and
//! some hundred bytes; loading it takes well under a millisecond, once.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use sandhog_core::compile::CompileBudget;
use sandhog_core::id::Revision;

use crate::cache::Artefact;
use crate::imports::{HandlerPre, RunState};
use crate::load::Loader;

/// The machine code of a plugin.
pub(crate) struct Code {
    pre: OnceLock<HandlerPre<RunState>>,
    aside: Mutex<Option<Aside>>,
}

/// Code that was left in the cache, and what loads it.
pub(crate) struct Aside {
    pub(crate) artefact: Artefact,
    pub(crate) loader: Arc<Loader>,
    /// Whose it is, what of, and what it may take, if it has to be compiled again.
    pub(crate) plugin: String,
    pub(crate) revision: Revision,
    pub(crate) compile: CompileBudget,
}

impl Code {
    /// Code that can run.
    pub(crate) fn at_hand(pre: HandlerPre<RunState>) -> Self {
        Self { pre: OnceLock::from(pre), aside: Mutex::new(None) }
    }

    /// Code that is loaded when it is first wanted.
    pub(crate) fn aside(aside: Aside) -> Self {
        Self { pre: OnceLock::new(), aside: Mutex::new(Some(aside)) }
    }

    /// The code, if it is at hand.
    pub(crate) fn get(&self) -> Option<&HandlerPre<RunState>> {
        self.pre.get()
    }

    /// Sees to it that it is at hand. Blocks, some milliseconds if it is large; as long as it takes to compile, if the
    /// artefact was lost or damaged since it was deployed.
    ///
    /// # Errors
    /// If it was, and can't be compiled again.
    pub(crate) fn load(&self) -> Result<(), String> {
        // Nothing that is done under the lock leaves anything half done.
        let mut held = self.aside.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(aside) = &*held else { return Ok(()) };
        let component = aside.artefact.load(aside.loader.link().engine());
        let component = component.or_else(|lost| aside.loader.compile_again(aside, &lost))?;
        let pre = aside.loader.link().link(&component).map_err(|problems| problems.join("; "))?;
        // Whoever loads holds the lock, and has found it empty.
        let _ = self.pre.set(pre);
        *held = None;
        Ok(())
    }
}
