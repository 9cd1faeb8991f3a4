//! What consensus makes of the disk: its patience, and who leads while it hangs.
//!
//! Never measures a write: whoever makes it does.

use super::super::event::{Event, LogDisk};
use super::super::pace::Pace;
use super::Consensus;
use crate::limits;
use crate::units::Millis;

impl<R> Consensus<R> {
    /// Before anything was written: what the disk took when the log was opened.
    pub fn begin_pace(&mut self, took: Millis) {
        self.pace = Pace::new(took);
        self.tell_disk(false);
    }

    /// A write has taken so long: elections are as patient as the disk makes it necessary.
    pub fn paced(&mut self, took: Millis) {
        self.pace.note(took);
        self.tell_disk(false);
    }

    /// A write takes too long: another node is to lead.
    pub fn disk_late(&mut self) {
        if self.node.step_down() {
            tracing::error!("the disk does not answer: this node gives the lead up");
        }
        self.tell_disk(true);
    }

    fn tell_disk(&mut self, hangs: bool) {
        self.node.be_patient(self.pace.election_ticks());
        let usual = self.pace.usual();
        let slow = (usual >= limits::WRITE_SLOW.into()).then_some(usual);
        let disk = LogDisk { slow, hangs };
        if disk.is_news(self.disk) {
            self.disk = disk;
            self.tell(Event::Disk(disk));
        }
    }
}
