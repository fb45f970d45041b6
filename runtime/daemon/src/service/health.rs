//! Use case of those who watch over the process: whether it can do its work.

use sandhog_api::Problem;

use super::{Service, of_broker};

/// Checks that the broker answers. Anybody may ask.
///
/// # Errors
/// The broker doesn't answer.
pub async fn broker(service: &Service) -> Result<(), Problem> {
    let config = service.config();
    match config.tenants.keys().next() {
        // A count by state costs the same however many jobs there are.
        Some(tenant) => service.broker.counts(tenant).await.map(drop).map_err(of_broker),
        None => Ok(()),
    }
}
