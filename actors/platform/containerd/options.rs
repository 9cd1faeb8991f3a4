//! Options of the runtime shim and the address of a log.
//!
//! Never calls anything.

use super::Config;
use prost::Message;
use std::path::Path;

/// Options of the shim `io.containerd.runc.v2`, as in containerd's `runtime/v2/runc/options`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RuncOptions {
    /// What to run instead of `runc`.
    #[prost(string, tag = "6")]
    pub binary_name: String,
    /// Where it keeps its state.
    #[prost(string, tag = "7")]
    pub root: String,
}

impl RuncOptions {
    /// The options as containerd wants them.
    pub(crate) fn any(config: &Config) -> prost_types::Any {
        let options = Self {
            binary_name: config.runc.to_string_lossy().into_owned(),
            root: config.runc_root.to_string_lossy().into_owned(),
        };
        prost_types::Any {
            type_url: "containerd.runc.v1.Options".to_owned(),
            value: options.encode_to_vec(),
        }
    }
}

/// The address of a logger process: the shim starts `binary` with the arguments, in no fixed
/// order of pairs, as `KEY VALUE KEY VALUE …`.
#[must_use]
pub fn log_uri(binary: &Path, arguments: &[(&str, &str)]) -> String {
    let path = escape(&binary.to_string_lossy(), b"/");
    let query: Vec<String> =
        arguments.iter().map(|(k, v)| format!("{}={}", escape(k, b""), escape(v, b""))).collect();
    if query.is_empty() {
        return format!("binary://{path}");
    }
    format!("binary://{path}?{}", query.join("&"))
}

fn escape(text: &str, keep: &[u8]) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || keep.contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a string never fails.
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_addresses_are_escaped() {
        let uri = log_uri(Path::new("/a b/mill-1"), &[("--dir", "/x&y"), ("--max", "10")]);
        assert_eq!(uri, "binary:///a%20b/mill-1?--dir=%2Fx%26y&--max=10");
        assert_eq!(log_uri(Path::new("/l"), &[]), "binary:///l");
    }
}
