//! Callers of use cases: their roles and scopes.

use std::collections::BTreeSet;

use sandhog_api::{Problem, Slug};
use sandhog_core::id::TenantId;

/// Role of a caller. Each role may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// May look at everything but payloads and outputs.
    Observe,
    /// May enqueue jobs.
    Produce,
    /// May look at payloads and outputs, and act on jobs.
    Operate,
    /// May change which revisions are in force.
    Deploy,
    /// May change what concerns all tenants, such as the daemon's configuration.
    Admin,
}

impl Role {
    /// Name of the role.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Produce => "produce",
            Self::Operate => "operate",
            Self::Deploy => "deploy",
            Self::Admin => "admin",
        }
    }
}

/// Tenants whose jobs and plugins a caller gets to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All tenants.
    All,
    /// These tenants. For the caller, those of others don't exist.
    Tenants(BTreeSet<TenantId>),
}

/// Caller of a use case. Each use case takes one, so none forgets to check it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    scope: Scope,
    role: Role,
}

impl Caller {
    /// Creates a caller of this role, for what is in scope.
    #[must_use]
    pub fn new(scope: Scope, role: Role) -> Self {
        Self { scope, role }
    }

    /// Creates the caller for the operator of the machine, who may do everything.
    #[must_use]
    pub fn operator() -> Self {
        Self::new(Scope::All, Role::Admin)
    }

    /// Whether a tenant is in scope.
    #[must_use]
    pub fn sees(&self, tenant: &TenantId) -> bool {
        match &self.scope {
            Scope::All => true,
            Scope::Tenants(tenants) => tenants.contains(tenant),
        }
    }

    /// Whether everything is in scope, including what belongs to no tenant.
    #[must_use]
    pub fn sees_all(&self) -> bool {
        self.scope == Scope::All
    }

    /// Whether the caller gets to see payloads and outputs.
    #[must_use]
    pub fn sees_payloads(&self) -> bool {
        self.role >= Role::Operate
    }

    /// Checks that the caller has at least this role.
    ///
    /// # Errors
    /// The caller has a lower role.
    pub fn needs(&self, role: Role) -> Result<(), Problem> {
        if self.role >= role {
            return Ok(());
        }
        let (has, needs) = (self.role.as_str(), role.as_str());
        Err(Problem::new(Slug::Forbidden, format!("this takes the role {needs}, and the caller has {has}")))
    }

    /// Checks that the caller has at least this role, and that all tenants are in scope.
    ///
    /// # Errors
    /// The caller has a lower role, or sees some tenants only.
    pub fn needs_for_all(&self, role: Role) -> Result<(), Problem> {
        self.needs(role)?;
        if self.sees_all() {
            return Ok(());
        }
        Err(Problem::new(
            Slug::Forbidden,
            "this concerns all tenants, and the caller speaks for some of them",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_may_do_what_those_before_it_may() {
        let roles = [Role::Observe, Role::Produce, Role::Operate, Role::Deploy, Role::Admin];
        for (n, has) in roles.into_iter().enumerate() {
            let caller = Caller::new(Scope::All, has);
            for (m, needs) in roles.into_iter().enumerate() {
                assert_eq!(caller.needs(needs).is_ok(), m <= n, "{has:?} {needs:?}");
            }
        }
        let acme = TenantId::parse("acme").expect("valid");
        let of_acme = Caller::new(Scope::Tenants(BTreeSet::from([acme])), Role::Admin);
        assert_eq!(of_acme.needs_for_all(Role::Admin).expect_err("of one tenant").slug, Slug::Forbidden);
    }
}
