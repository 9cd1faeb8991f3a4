//! Lines that change while something is going on, on a terminal.
//!
//! Owns the bars. Never decides what they say.

use crate::cli::error::CliError;
use crate::cli::ui::Ui;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::BTreeMap;
use std::time::Duration;

/// How often a spinner turns.
const TICK: Duration = Duration::from_millis(100);

/// Lines that stay, above lines that change; on anything but a terminal only the former.
pub struct Live {
    ui: Ui,
    bars: Option<MultiProgress>,
    doing: BTreeMap<String, ProgressBar>,
}

impl Live {
    /// For that output.
    pub fn new(ui: Ui) -> Self {
        let bars = ui.live.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stdout()));
        Self { ui, bars, doing: BTreeMap::new() }
    }

    /// Writes a line that stays.
    pub fn line(&self, text: &str) -> Result<(), CliError> {
        match &self.bars {
            Some(bars) if !self.doing.is_empty() => {
                bars.println(text).map_err(|source| CliError::Output { source })
            }
            _ => self.ui.print(text),
        }
    }

    /// Changes a line with those below it, or takes them away.
    pub fn doing(&mut self, key: &str, text: Option<String>, below: &[String]) {
        let Some(bars) = &self.bars else { return };
        let Some(text) = text else {
            if let Some(bar) = self.doing.remove(key) {
                bar.finish_and_clear();
                bars.remove(&bar);
            }
            return;
        };
        let bar = self.doing.entry(key.to_owned()).or_insert_with(|| {
            let bar = bars.add(ProgressBar::new_spinner());
            if let Ok(style) = ProgressStyle::with_template("{msg}  {elapsed} {spinner}{prefix}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(TICK);
            bar
        });
        bar.set_prefix(below.iter().map(|line| format!("\n{line}")).collect::<String>());
        bar.set_message(text);
    }

    /// Takes all changing lines away.
    pub fn clear(&mut self) {
        for (_, bar) in std::mem::take(&mut self.doing) {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.clear();
    }
}
