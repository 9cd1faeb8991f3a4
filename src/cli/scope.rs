//! What an app's name stands for where services and tasks are meant.
//!
//! Owns that expansion. Never changes anything.

use super::client::Client;
use super::error::CliError;

/// The services and tasks of an app; none if there is no such app.
///
/// # Errors
/// The daemon can't say.
pub(super) async fn of_app(client: &Client, app: &str) -> Result<Vec<String>, CliError> {
    let status = client.status().await?;
    let services = status.services.iter().filter(|one| one.app == app).map(|one| &one.name);
    let tasks = status.tasks.iter().filter(|one| one.app == app).map(|one| &one.name);
    Ok(services.chain(tasks).cloned().collect())
}
