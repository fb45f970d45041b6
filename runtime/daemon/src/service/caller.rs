//! Callers of use cases: their roles and scopes.

use sandhog_api::{Problem, Slug};
use sandhog_core::id::TenantId;

pub use sandhog_core::access::{Role, Scope};

/// Caller of a use case. Each use case takes one, so none forgets to check it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Name of the token. `None` where no tokens are needed.
    token: Option<String>,
    scope: Scope,
    role: Role,
}

impl Caller {
    /// Creates a caller of this name and role, for what is in scope.
    #[must_use]
    pub fn new(name: impl Into<String>, scope: Scope, role: Role) -> Self {
        Self { token: Some(name.into()), scope, role }
    }

    /// Creates the caller of an interface without tokens, who may do everything.
    #[must_use]
    pub fn anonymous() -> Self {
        Self { token: None, scope: Scope::All, role: Role::Admin }
    }

    /// Creates the caller for the operator of the machine, who may do everything.
    #[must_use]
    pub fn operator() -> Self {
        Self::new("operator", Scope::All, Role::Admin)
    }

    /// Name of the caller, for people.
    #[must_use]
    pub fn name(&self) -> &str {
        self.token().unwrap_or("anonymous")
    }

    /// Name of the caller's token. `None` where no tokens are needed.
    #[must_use]
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Tenants in scope.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Role of the caller.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
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
        let (has, needs) = (self.role.slug(), role.slug());
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
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_role_may_do_what_those_before_it_may() {
        for (n, has) in Role::ALL.into_iter().enumerate() {
            let caller = Caller::new("x", Scope::All, has);
            for (m, needs) in Role::ALL.into_iter().enumerate() {
                assert_eq!(caller.needs(needs).is_ok(), m <= n, "{has:?} {needs:?}");
            }
        }
        let acme = TenantId::parse("acme").expect("valid");
        let of_acme = Caller::new("x", Scope::Tenants(BTreeSet::from([acme])), Role::Admin);
        assert_eq!(of_acme.needs_for_all(Role::Admin).expect_err("of one tenant").slug, Slug::Forbidden);
    }
}
