//! Whole numbers in bodies, as JSON has them: `7.0` is `7`.
//!
//! Never rounds one.

use serde::de::Error;
use serde::{Deserialize, Deserializer};

/// Reads a whole number, or its absence.
pub(super) fn option<'de, D, T>(from: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<u64>,
{
    Option::<serde_json::Number>::deserialize(from)?.map(whole).transpose()
}

/// Reads a whole number.
pub(super) fn number<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<u64>,
{
    whole(serde_json::Number::deserialize(from)?)
}

fn whole<E: Error, T: TryFrom<u64>>(number: serde_json::Number) -> Result<T, E> {
    // Every whole number below is written exactly.
    let exact =
        |float: &f64| float.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(float);
    let found = number.as_u64().or_else(|| number.as_f64().filter(exact).map(|float| float as u64));
    let found = found.and_then(|number| T::try_from(number).ok());
    found.ok_or_else(|| E::custom(format!("{number} isn't a whole number that is possible here")))
}

#[cfg(test)]
mod tests {
    use crate::api::wire::{RollbackRequest, ScaleRequest};

    #[test]
    fn a_whole_number_may_have_a_point() {
        let revision = |text: &str| {
            let read = serde_json::from_str::<RollbackRequest>(text).map_err(|_| ())?;
            Ok::<_, ()>(read.revision)
        };
        assert_eq!(revision(r#"{"revision": 7.0}"#), Ok(Some(7)));
        assert_eq!(revision(r#"{"revision": null}"#), Ok(None));
        assert_eq!(revision("{}"), Ok(None));
        for wrong in ["7.5", "-1", "1e300", "\"7\"", "true"] {
            assert_eq!(revision(&format!("{{\"revision\": {wrong}}}")), Err(()), "{wrong}");
        }
        let replicas = serde_json::from_str::<ScaleRequest>(r#"{"replicas": 2.0}"#).unwrap();
        assert_eq!(replicas.replicas, 2);
        assert!(serde_json::from_str::<ScaleRequest>(r#"{"replicas": 5000000000}"#).is_err());
    }
}
