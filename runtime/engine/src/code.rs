//! Machine code of a plugin: at hand, or left in the cache until it is first wanted.
//!
//! Of a thousand plugins that are deployed, a day sees a few dozen used. One that is only deployed costs an open file and some
//! hundred bytes; loading it takes well under a millisecond, once.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use sandhog_core::compile::CompileBudget;
use sandhog_core::id::{Revision, TenantId};

use crate::cache::Artefact;
use crate::imports::Pre;
use crate::load::Loader;

/// Machine code of a plugin.
pub(crate) struct Code {
    pre: OnceLock<Pre>,
    aside: Mutex<Option<Aside>>,
}

/// Code that was left in the cache, and what loads it.
pub(crate) struct Aside {
    pub(crate) artefact: Artefact,
    pub(crate) loader: Arc<Loader>,
    /// Tenant, name, revision and budget of the plugin, in case it has to be compiled again.
    pub(crate) tenant: Option<TenantId>,
    pub(crate) plugin: String,
    pub(crate) revision: Revision,
    pub(crate) compile: CompileBudget,
}

impl Code {
    /// Creates code that can run.
    pub(crate) fn at_hand(pre: Pre) -> Self {
        Self { pre: OnceLock::from(pre), aside: Mutex::new(None) }
    }

    /// Creates code that is loaded when it is first wanted.
    pub(crate) fn aside(aside: Aside) -> Self {
        Self { pre: OnceLock::new(), aside: Mutex::new(Some(aside)) }
    }

    /// Returns the code. `None` if it isn't at hand.
    pub(crate) fn get(&self) -> Option<&Pre> {
        self.pre.get()
    }

    /// Loads the code unless it is at hand. Blocks, some milliseconds if it is large; as long as it takes to compile, if the
    /// artefact was lost or damaged since it was deployed.
    ///
    /// # Errors
    /// The artefact was lost or damaged, and the component can't be compiled again; or the code can't be linked.
    pub(crate) fn load(&self) -> Result<(), String> {
        // No change that is made under the lock is left half done.
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
