//! The known word nearest to a misspelt one.
//!
//! Owns the measure (optimal string alignment). Never suggests something far off.

/// The nearest of the known words, if one is near enough to be what was meant.
#[must_use]
pub fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let lower: String = word.chars().take(64).map(|c| c.to_ascii_lowercase()).collect();
    let plain: String = lower.chars().filter(|c| c.is_alphanumeric()).collect();
    if plain.is_empty() {
        return None;
    }
    let near = |candidate: &&'k str| {
        let longer = lower.chars().count().max(candidate.chars().count());
        let allowed = (longer / 3).max(1);
        let found = strsim::osa_distance(&lower, candidate);
        // `maxParallel`, `max_parallel`: the same letters.
        let same = candidate.chars().filter(|c| c.is_alphanumeric()).eq(plain.chars());
        let grown = word.len() > 2 && candidate.starts_with(word);
        (same || grown || found <= allowed).then_some((if same { 0 } else { found }, *candidate))
    };
    known.iter().filter_map(near).min().map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_found() {
        let known = ["image", "replicas", "env", "health", "max-parallel", "port", "route"];
        assert_eq!(nearest("replica", &known), Some("replicas"));
        assert_eq!(nearest("imgae", &known), Some("image"));
        assert_eq!(nearest("Image", &known), Some("image"));
        assert_eq!(nearest("maxParallel", &known), Some("max-parallel"));
        assert_eq!(nearest("max_parallel", &known), Some("max-parallel"));
        assert_eq!(nearest("ports", &known), Some("port"));
        assert_eq!(nearest("rep", &known), Some("replicas"));
        assert_eq!(nearest("zebra", &known), None);
        assert_eq!(nearest("", &known), None);
        assert_eq!(nearest("''", &known), None);
    }
}
