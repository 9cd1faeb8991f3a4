//! The frames of a program that is run in a container, over a WebSocket.
//!
//! Never opens one.

use serde::{Deserialize, Serialize};

/// What a control frame of `exec` says; its first byte is 3, the rest this as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecControl {
    /// From the client: its terminal has this size now.
    Resize {
        /// Columns.
        width: u16,
        /// Rows.
        height: u16,
    },
    /// From the client: its input has ended.
    Eof {},
    /// From the server: the program has ended, or could not be run. The last frame.
    Exit {
        /// The program's code; 125 mill failed, 126 it can't be executed, 127 it isn't there.
        code: u8,
        /// Why it was not run, or did not end by itself.
        message: Option<String>,
    },
}

impl ExecControl {
    /// The frame's first byte: for the program to read.
    pub const STDIN: u8 = 0;
    /// The frame's first byte: the program wrote it.
    pub const STDOUT: u8 = 1;
    /// The frame's first byte: the program wrote it as an error.
    pub const STDERR: u8 = 2;
    /// The frame's first byte: one of these.
    pub const CONTROL: u8 = 3;

    /// As a frame.
    #[must_use]
    pub fn frame(&self) -> Vec<u8> {
        let mut frame = vec![Self::CONTROL];
        // It has nothing in it that JSON can't hold.
        frame.extend(serde_json::to_vec(self).unwrap_or_default());
        frame
    }
}
