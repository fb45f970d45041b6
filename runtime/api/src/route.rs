//! Paths of a daemon's API; `docs/api.md` describes them for people.

/// `POST`: has the configuration read again. Answers with [`Reloaded`](crate::Reloaded).
pub const RELOAD: &str = "/v1/reload";

/// `POST` of a [`RollBack`](crate::RollBack): puts an earlier revision of a plugin into force again. Answers with the
/// [`DeployEvent`](crate::DeployEvent).
pub const ROLLBACK: &str = "/v1/rollback";

/// `GET`: the status of all plugins, as [`PluginStatuses`](crate::PluginStatuses).
pub const PLUGINS: &str = "/v1/plugins";

/// `GET`: the latest events of deploys, as [`DeployEvents`](crate::DeployEvents).
pub const DEPLOY_EVENTS: &str = "/v1/deploy-events";

#[cfg(test)]
mod tests {
    use crate::Slug;

    const PAGE: &str = include_str!("../../../docs/api.md");

    #[test]
    fn the_page_has_each_route_and_each_kind_of_problem() {
        let routes = [
            format!("`POST {}`", super::RELOAD),
            format!("`POST {}`", super::ROLLBACK),
            format!("`GET {}`", super::PLUGINS),
            format!("`GET {}`", super::DEPLOY_EVENTS),
        ];
        for route in &routes {
            assert!(PAGE.contains(&format!("| {route} |")), "{route}");
        }
        for slug in Slug::ALL {
            let row = format!("| `{slug}` | {} | {} |", slug.status(), slug.title());
            assert!(PAGE.contains(&row), "{row}");
        }
        let rows = PAGE.lines().filter(|line| line.starts_with("| `")).count();
        assert_eq!(rows, routes.len() + Slug::ALL.len() + 1, "and no others");
    }
}
