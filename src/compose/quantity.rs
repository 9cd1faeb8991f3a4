//! Sizes, durations and cores as Compose writes them, in the format's own units.
//!
//! Never decides what they are for.

use crate::units::Millis;

/// A size such as `512m`, `1.5gb` or `300000000`; Compose's units are powers of 1024.
pub(super) fn size(text: &str) -> Option<String> {
    let text = text.trim().to_ascii_lowercase();
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..at].parse().ok()?;
    let shift = match text[at..].trim().trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return None,
    };
    let bytes = number * f64::from(1u32 << (shift / 2)) * f64::from(1u32 << (shift - shift / 2));
    // Above that no machine has any, and below it every number is exact.
    let bytes = Some(bytes).filter(|bytes| (1.0..1e15).contains(bytes))? as u64;
    let unit = [(30, "Gi"), (20, "Mi"), (10, "Ki")];
    let (shift, unit) =
        unit.into_iter().find(|(shift, _)| bytes.is_multiple_of(1 << shift)).unwrap_or((10, "Ki"));
    Some(format!("{}{unit}", bytes.div_ceil(1 << shift)))
}

/// A duration such as `1m30s`.
pub(super) fn duration(text: &str) -> Option<Millis> {
    let (mut rest, mut total) = (text.trim(), 0.0);
    while !rest.is_empty() {
        let at = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..at].parse().ok()?;
        rest = &rest[at..];
        let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        total += number
            * match &rest[..end] {
                "h" => 3_600_000.0,
                "m" => 60_000.0,
                "s" => 1000.0,
                "ms" => 1.0,
                "us" => 0.001,
                _ => return None,
            };
        rest = &rest[end..];
    }
    Some(total).filter(|ms| (1.0..1e12).contains(ms)).map(|ms| Millis(ms as u64))
}

/// A duration as the format writes it.
pub(super) fn written(duration: Millis) -> String {
    match duration.0 {
        ms if ms.is_multiple_of(3_600_000) => format!("{}h", ms / 3_600_000),
        ms if ms.is_multiple_of(60_000) => format!("{}m", ms / 60_000),
        ms if ms.is_multiple_of(1000) => format!("{}s", ms / 1000),
        ms => format!("{ms}ms"),
    }
}

/// Cores such as `0.50`.
pub(super) fn cores(text: &str) -> Option<String> {
    let cores: f64 = text.trim().parse().ok()?;
    let fits = (0.001..=1024.0).contains(&cores);
    fits.then(|| format!("{cores:.3}").trim_end_matches('0').trim_end_matches('.').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[yare::parameterized(
        megabytes = { "512m", Some("512Mi") },
        capital = { "1G", Some("1Gi") },
        long = { "64MB", Some("64Mi") },
        fraction = { "1.5g", Some("1536Mi") },
        bytes = { "300000000", Some("292969Ki") },
        nothing = { "0", None },
        unknown = { "5x", None },
        terabytes = { "1t", Some("1024Gi") },
    )]
    fn sizes(text: &str, expected: Option<&str>) {
        assert_eq!(size(text).as_deref(), expected);
    }

    #[yare::parameterized(
        seconds = { "30s", Some("30s") },
        mixed = { "1m30s", Some("90s") },
        hours = { "1h", Some("1h") },
        fine = { "1.5s", Some("1500ms") },
        minutes = { "120s", Some("2m") },
        bare = { "30", None },
        odd = { "3 days", None },
    )]
    fn durations(text: &str, expected: Option<&str>) {
        assert_eq!(duration(text).map(written).as_deref(), expected);
    }

    #[test]
    fn cores_have_three_decimals() {
        let all = ["0.50", "2", "0.0001", "x"].map(cores);
        assert_eq!(all, [Some("0.5".to_owned()), Some("2".to_owned()), None, None]);
    }
}
