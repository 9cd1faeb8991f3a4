//! The known word nearest to a misspelt one.
//!
//! Owns the measure (optimal string alignment). Never suggests something far off.

/// The nearest of the known words, if one is near enough to be what was meant.
#[must_use]
pub fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let lower: Vec<char> = word.chars().take(64).map(|c| c.to_ascii_lowercase()).collect();
    let plain: String = lower.iter().filter(|c| c.is_alphanumeric()).collect();
    if plain.is_empty() {
        return None;
    }
    let near = |candidate: &&'k str| {
        let other: Vec<char> = candidate.chars().collect();
        let allowed = (lower.len().max(other.len()) / 3).max(1);
        let found = distance(&lower, &other);
        // `maxParallel`, `max_parallel`: the same letters.
        let same = candidate.chars().filter(|c| c.is_alphanumeric()).eq(plain.chars());
        let grown = word.len() > 2 && candidate.starts_with(word);
        (same || grown || found <= allowed).then_some((if same { 0 } else { found }, *candidate))
    };
    known.iter().filter_map(near).min().map(|(_, candidate)| candidate)
}

/// Insertions, deletions, changes and swaps of neighbours between two words.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let change = usize::from(a[i - 1] != b[j - 1]);
            let mut best =
                (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + change);
            let swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            if swapped {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
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
