//! What every command has: global flags, environment, output and the way to the daemon.
//!
//! Owns nothing that one command alone needs.

use super::client::Client;
use super::error::CliError;
use super::globals::Globals;
use super::ui::Ui;
use super::{exec, screen};
use crate::config::Env;
use crate::limits;
use crate::units::Timestamp;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// What every command has.
#[derive(Clone, Debug)]
pub struct Context {
    /// Global flags, completed by the environment.
    pub globals: Globals,
    /// The environment.
    pub env: Env,
    /// Output.
    pub ui: Ui,
    /// What is said after Ctrl-C.
    pub parting: Arc<Mutex<Option<String>>>,
}

impl Context {
    /// A client of the daemon that the flags say.
    ///
    /// # Errors
    /// An address that can't be used.
    pub fn client(&self) -> Result<Client, CliError> {
        let client = Client::new(self.globals.targets()?, self.globals.token.clone());
        Ok(client.verbatim(self.ui.json))
    }

    /// The present, for ages.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let ms = jiff::Timestamp::now().as_millisecond();
        Timestamp(u64::try_from(ms).unwrap_or_default())
    }

    /// What is said after Ctrl-C from now on.
    pub fn farewell(&self, text: Option<String>) {
        *self.parting.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }

    /// Says what is left to say after Ctrl-C.
    pub fn part(&self) {
        let text = self.parting.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(text) = text.filter(|_| !self.ui.json) {
            self.ui.note(&text);
        }
    }

    /// Says it when an answer could not be confirmed.
    pub fn note_stale(&self, client: &Client) {
        if client.saw_stale() && !self.ui.json {
            self.ui.note("No leader confirmed this: it may be out of date");
        }
    }

    /// Repeats `show` every second on a terminal, until Ctrl-C; elsewhere shows each change. Goes
    /// on over a daemon that is away for a while, and says so.
    ///
    /// # Errors
    /// Those of the first `show`, of any that can't pass, and of writing.
    pub async fn watch<F, Fut>(&self, client: &Client, mut show: F) -> Result<(), CliError>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<String, CliError>>,
    {
        let mut last: Option<String> = None;
        let (mut away, mut stale) = (None, false);
        loop {
            match show().await {
                Ok(text) => {
                    if self.ui.live {
                        // Home, clear to the end, then the text: no flicker.
                        let shown = exec::size().map(|size| screen::fit(&text, size));
                        let shown = shown.as_deref().unwrap_or(&text);
                        self.ui.print(&format!("\u{1b}[H\u{1b}[2J{shown}"))?;
                    } else if last.as_ref() != Some(&text) {
                        self.ui.print(&text)?;
                    }
                    (last, away) = (Some(text), None);
                    let was = std::mem::replace(&mut stale, client.take_stale());
                    if stale && (self.ui.live || !was) {
                        self.ui.note("No leader confirmed this: it may be out of date");
                    }
                }
                Err(CliError::Client(error)) if last.is_some() && error.may_pass() => {
                    if away.is_none() {
                        self.ui.note(&format!("{}. Trying again", error.text()));
                    }
                    if away.get_or_insert_with(Instant::now).elapsed() > limits::RECONNECT_FOR {
                        return Err(error.into());
                    }
                }
                Err(error) => return Err(error),
            }
            tokio::time::sleep(limits::WATCH_INTERVAL).await;
        }
    }
}
