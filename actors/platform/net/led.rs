//! The services' stable addresses, as the kernel was told.
//!
//! Owns that connections by UDP follow a change: nobody else notices that their replica has gone.
//! Never decides where an address leads.

use super::conntrack::{self, Flow};
use super::{Net, NetError, Virtuals, firewall};
use parking_lot::Mutex;

/// What this process has led; absent until the first time: what an earlier one led goes on.
#[derive(Default)]
pub(super) struct Led(Mutex<Option<Virtuals>>);

impl Net {
    /// Makes exactly these stable addresses lead to these replicas, all at once.
    ///
    /// # Errors
    /// The kernel refuses the rules.
    pub async fn lead(&self, virtuals: Virtuals) -> Result<(), NetError> {
        // Without a bridge nobody asks; what makes one tells the kernel.
        let guard = self.bridge.read().await;
        let before = self.led.0.lock().replace(virtuals.clone());
        if guard.is_none() || before.as_ref() == Some(&virtuals) {
            return Ok(());
        }
        let told = self.tell(&firewall::lead(&self.config, &virtuals)).await;
        if told.is_err() {
            // So that it is told once more.
            *self.led.0.lock() = before;
            return told;
        }
        if before.is_none_or(|before| loses(&before, &virtuals)) {
            self.forget(move |flow| is_misled(flow, &virtuals)).await;
        }
        Ok(())
    }

    pub(super) fn led_rules(&self) -> String {
        let led = self.led.0.lock();
        led.as_ref().map(|virtuals| firewall::lead(&self.config, virtuals)).unwrap_or_default()
    }
}

/// Whether an address led to a replica that it leads to no more.
fn loses(before: &Virtuals, now: &Virtuals) -> bool {
    let mut all = before.targets.iter();
    all.any(|(place, old)| now.targets.get(place).is_none_or(|new| !old.is_subset(new)))
}

/// Whether a connection goes by UDP from a stable address to a replica that it leads to no more.
fn is_misled(flow: &Flow, virtuals: &Virtuals) -> bool {
    let (asked, port) = flow.original.destination;
    let is_ours = virtuals.range.is_some_and(|range| range.contains(asked));
    let targets = virtuals.targets.get(&(asked, port));
    let is_right = targets.is_some_and(|all| all.contains(&flow.reply.source.0));
    flow.protocol == conntrack::UDP && is_ours && !is_right
}
