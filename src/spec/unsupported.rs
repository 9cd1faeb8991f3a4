//! What the format knows and this build can't execute yet.
//!
//! Owns one table: whoever builds a feature deletes its line. Never refuses a file by itself.

use super::parsed::Parsed;
use super::report::Problem;

/// Paths of fields, `*` for any name, and what they are called.
const FIELDS: &[(&[&str], &str)] = &[(&["service", "*", "update", "canary"], "canaries")];

/// Everything in a file that this build can't execute, with its place.
#[must_use]
pub fn unsupported(parsed: &Parsed) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (path, span) in &parsed.positions {
        let fits = |pattern: &[&str]| {
            pattern.len() == path.len()
                && pattern.iter().zip(path).all(|(want, have)| *want == "*" || want == have)
        };
        let found = FIELDS.iter().find(|(pattern, _)| fits(pattern));
        if let Some((_, what)) = found {
            let text = message(&path[0], &path[1], what);
            problems.push(parsed.problem_at(*span, text, None));
        }
    }
    problems.sort_by_key(|problem| problem.span);
    problems
}

fn message(kind: &str, name: &str, what: &str) -> String {
    format!("{kind} {name:?}: this build can't run {what} yet")
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::*;

    const FILE: &str = "service \"web\" {
    image \"nginx\"
    port 80
    env { A \"x${service.db.address}\"; B \"${secret(b)}\"; C \"$${secret(b)}\" }
    health exec=\"true\"
    route \"a.example\" auth=\"s\" compress=#true log=#false
    volume \"e\" path=\"/e\" ephemeral=#true
    secret-file \"s\" path=\"/s\"
    update canary=1 for=\"1m\"
    before-deploy \"t\"
    after-deploy \"t\"
}
service \"db\" { image \"postgres\"; port 5432; publish 5432
    volume \"d\" path=\"/d\" size=\"1G\" }
task \"t\" { image \"busybox\"; env { S \"${secret(s)}\" } }
";

    #[test]
    fn every_row_of_the_table_is_found_with_its_line() {
        let parsed = read("f", FILE).unwrap();
        let found: Vec<(u32, u32, String)> =
            unsupported(&parsed).into_iter().map(|p| (p.line, p.column, p.message)).collect();
        let expected = [(9, 19, "service \"web\"", "canaries")];
        let expected: Vec<(u32, u32, String)> = expected
            .into_iter()
            .map(|(line, column, who, what)| {
                (line, column, format!("{who}: this build can't run {what} yet"))
            })
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_file_without_them_passes() {
        let text = "service \"web\" { image \"nginx\"; port 80; health \"/\"; publish 80; \
                    route \"a.example\" }";
        assert_eq!(unsupported(&read("f", text).unwrap()), Vec::new());
    }
}
