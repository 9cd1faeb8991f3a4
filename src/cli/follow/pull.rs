//! A pull as a person sees it: bars with bytes, for the image and for its layers.
//!
//! Owns their looks. Never prints.

use crate::api::wire::{LayerProgress, ProgressEvent};
use crate::units::Bytes;

/// Letters between a bar's brackets.
const WIDTH: u64 = 20;
/// Letters of a layer's digest.
const DIGEST: usize = 12;
/// Layers shown at once: so many are fetched.
const SHOWN: usize = crate::limits::PULLS_PARALLEL;

/// How far the whole is: `[====>     ] 91M/200M  3/10 layers`.
pub fn whole(event: &ProgressEvent) -> Option<String> {
    let (bytes, total) = (event.bytes?, event.total?);
    if total == 0 {
        return None;
    }
    let layers = event.layers.as_deref().unwrap_or_default();
    let there = layers.iter().filter(|layer| layer.bytes == layer.total).count();
    let count = match layers.len() {
        0 | 1 => String::new(),
        all => format!("  {there}/{all} layers"),
    };
    let count = if bytes == total { "  unpacking".to_owned() } else { count };
    Some(format!("{} {}/{}{count}", bar(bytes, total), Bytes(bytes), Bytes(total)))
}

/// A line for each layer that is under way, if there are several layers.
pub fn layers(event: &ProgressEvent) -> Vec<String> {
    let all = event.layers.as_deref().unwrap_or_default();
    let under_way = all.iter().filter(|layer| layer.bytes > 0 && layer.bytes < layer.total);
    let line = |layer: &LayerProgress| {
        let hex = layer.digest.rsplit(':').next().unwrap_or_default();
        let short: String = hex.chars().take(DIGEST).collect();
        let (bytes, total) = (Bytes(layer.bytes), Bytes(layer.total));
        format!("  {short}  {} {bytes}/{total}", bar(layer.bytes, layer.total))
    };
    if all.len() < 2 { Vec::new() } else { under_way.take(SHOWN).map(line).collect() }
}

fn bar(bytes: u64, total: u64) -> String {
    let done = bytes.min(total).saturating_mul(WIDTH).checked_div(total).unwrap_or(0);
    let text = |letter: &str, count: u64| letter.repeat(usize::try_from(count).unwrap_or(0));
    match done {
        WIDTH => format!("[{}]", text("=", WIDTH)),
        _ => format!("[{}>{}]", text("=", done), text(" ", WIDTH - done - 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(digest: &str, bytes: u64, total: u64) -> LayerProgress {
        LayerProgress { digest: format!("sha256:{digest}"), bytes, total }
    }

    #[test]
    fn bars_fill() {
        assert_eq!(bar(0, 0), "[>                   ]");
        assert_eq!(bar(0, 10), "[>                   ]");
        assert_eq!(bar(5, 10), "[==========>         ]");
        assert_eq!(bar(10, 10), "[====================]");
        assert_eq!(bar(u64::MAX, u64::MAX), "[=>                  ]", "no overflow");
    }

    #[test]
    fn layers_under_way_have_lines() {
        let event = ProgressEvent {
            phase: "pulling".into(),
            service: "web".to_owned(),
            allocation: None,
            node: None,
            elapsed: 1.0,
            bytes: Some(35_000_000),
            total: Some(60_000_000),
            layers: Some(vec![
                layer("aaaaaaaaaaaaaaaa", 10_000_000, 10_000_000),
                layer("bbbbbbbbbbbbbbbb", 25_000_000, 30_000_000),
                layer("cccccccccccccccc", 0, 20_000_000),
            ]),
            message: None,
        };
        assert_eq!(whole(&event).unwrap(), "[===========>        ] 35M/60M  1/3 layers");
        assert_eq!(layers(&event), ["  bbbbbbbbbbbb  [================>   ] 25M/30M"]);
        let nothing = ProgressEvent { bytes: Some(0), total: Some(0), ..event.clone() };
        assert_eq!(whole(&nothing), None, "all was there");
        let fetched = ProgressEvent { bytes: event.total, ..event };
        assert_eq!(whole(&fetched).unwrap(), "[====================] 60M/60M  unpacking");
    }
}
