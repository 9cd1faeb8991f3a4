//! Platforms: which images this machine can run.
//!
//! Owns the names of architectures and the order of their variants. Never looks at an image.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Processor architecture and operating system, in the names of the OCI image specification.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Platform {
    /// `amd64`, `arm64`, …
    #[serde(default)]
    pub architecture: String,
    /// `linux`, …
    #[serde(default)]
    pub os: String,
    /// `v7`, `v8`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

impl Platform {
    /// The platform that this program runs on, with the best variant that its processor can run.
    #[must_use]
    pub fn host() -> Self {
        let architecture = canonical(std::env::consts::ARCH).to_owned();
        Self { architecture, os: "linux".to_owned(), variant: variant().map(str::to_owned) }
    }

    /// Whether something for `self` runs on `host`.
    #[must_use]
    pub fn runs_on(&self, host: &Self) -> bool {
        let same = canonical(&self.architecture) == canonical(&host.architecture);
        let os = if self.os.is_empty() { "linux" } else { &self.os };
        os == host.os && same && self.level() <= host.level()
    }

    /// Whether it says which processor it is for.
    #[must_use]
    pub fn is_told(&self) -> bool {
        !self.architecture.is_empty() && !self.is_unknown()
    }

    /// What an attestation gives for its platform.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.architecture == "unknown"
    }

    /// The variant as a version, `v8.2` as 8 and 2; what has none is what all processors of its
    /// architecture can do.
    #[must_use]
    pub fn level(&self) -> (u32, u32) {
        let text = self.variant.as_deref().unwrap_or_default().trim_start_matches('v');
        let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
        let level = (major.parse().unwrap_or(0), minor.parse().unwrap_or(0));
        // The first of each is another word for none.
        match (canonical(&self.architecture), level) {
            ("amd64", (1, _)) | ("arm64", (8, 0)) => (0, 0),
            (_, level) => level,
        }
    }
}

/// An architecture's name as the OCI image specification has it.
fn canonical(architecture: &str) -> &str {
    match architecture {
        "x86_64" | "x86-64" => "amd64",
        "aarch64" => "arm64",
        "x86" | "i386" | "i686" => "386",
        other => other,
    }
}

/// The psABI's microarchitecture level of this processor.
#[cfg(target_arch = "x86_64")]
fn variant() -> Option<&'static str> {
    use std::arch::is_x86_feature_detected as has;
    let second = has!("cmpxchg16b")
        && has!("popcnt")
        && has!("sse3")
        && has!("ssse3")
        && has!("sse4.1")
        && has!("sse4.2");
    let third = has!("avx")
        && has!("avx2")
        && has!("bmi1")
        && has!("bmi2")
        && has!("f16c")
        && has!("fma")
        && has!("lzcnt")
        && has!("movbe");
    let fourth = has!("avx512f")
        && has!("avx512bw")
        && has!("avx512cd")
        && has!("avx512dq")
        && has!("avx512vl");
    match (second, third, fourth) {
        (true, true, true) => Some("v4"),
        (true, true, false) => Some("v3"),
        (true, false, _) => Some("v2"),
        (false, ..) => None,
    }
}

#[cfg(target_arch = "aarch64")]
fn variant() -> Option<&'static str> {
    std::arch::is_aarch64_feature_detected!("sve2").then_some("v9")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn variant() -> Option<&'static str> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        let mut parts = text.split('/').map(str::to_owned);
        let (os, architecture) = (parts.next().unwrap(), parts.next().unwrap());
        Platform { os, architecture, variant: parts.next() }
    }

    #[yare::parameterized(
        same = { "linux/amd64", "linux/amd64/v3", true },
        lower = { "linux/amd64/v2", "linux/amd64/v3", true },
        own = { "linux/amd64/v3", "linux/amd64/v3", true },
        higher = { "linux/amd64/v4", "linux/amd64/v3", false },
        first = { "linux/amd64/v1", "linux/amd64", true },
        second = { "linux/amd64/v2", "linux/amd64", false },
        other_name = { "linux/x86_64", "linux/amd64/v2", true },
        arm = { "linux/arm64/v8", "linux/arm64", true },
        arm_name = { "linux/aarch64", "linux/arm64/v9", true },
        arm_later = { "linux/arm64/v8.2", "linux/arm64", false },
        other = { "linux/arm64", "linux/amd64/v4", false },
        windows = { "windows/amd64", "linux/amd64", false },
    )]
    fn what_a_processor_can_run(what: &str, host: &str, runs: bool) {
        assert_eq!(platform(what).runs_on(&platform(host)), runs);
    }

    #[test]
    fn this_machine_runs_its_own_images() {
        let host = Platform::host();
        assert!(host.runs_on(&host) && platform("linux/amd64").is_told());
        assert!(Platform { variant: None, ..host.clone() }.runs_on(&host));
    }
}
