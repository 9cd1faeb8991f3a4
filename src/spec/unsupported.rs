//! What the format knows and this build can't execute yet.
//!
//! Owns one table: whoever builds a feature deletes its line. Never refuses a file by itself.

use super::model::{ServiceSpec, UpdateOrder};
use super::parsed::Parsed;
use super::report::Problem;

/// Paths of fields, `*` for any name, and what they are called.
const FIELDS: &[(&[&str], &str)] = &[
    (&["service", "*", "route", "*", "auth"], "basic authentication of routes"),
    (&["service", "*", "route", "*", "log"], "access logs"),
];

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
    for (name, service) in &parsed.spec.services {
        if let Some((text, hint)) = canary(service) {
            let path = ["service", name.as_str(), "update", "canary"];
            problems.push(parsed.problem(
                &path,
                format!("service {:?}: {text}", name.as_str()),
                hint,
            ));
        }
    }
    problems.sort_by_key(|problem| problem.span);
    problems
}

/// Why a canary could not be judged.
fn canary(service: &ServiceSpec) -> Option<(&'static str, Option<String>)> {
    let update = &service.update;
    let canary = update.canary.as_ref()?;
    if service.routes.iter().all(|route| route.options.to.is_some()) {
        let text = "a canary is judged by the requests of its routes, and there is none";
        return Some((text, Some("add a route, or take the canary out".to_owned())));
    }
    if update.order == UpdateOrder::StopFirst && canary.count >= service.replicas {
        let text = "a canary of all replicas would leave no old one to compare it with";
        let hint = match service.replicas {
            1 => "write order=\"start-first\"".to_owned(),
            n => format!("write order=\"start-first\", or canary={} at most", n - 1),
        };
        return Some((text, Some(hint)));
    }
    None
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
        let expected = [
            (6, 28, "service \"web\"", "basic authentication of routes"),
            (6, 51, "service \"web\"", "access logs"),
        ];
        let expected: Vec<(u32, u32, String)> = expected
            .into_iter()
            .map(|(line, column, who, what)| {
                (line, column, format!("{who}: this build can't run {what} yet"))
            })
            .collect();
        assert_eq!(found, expected);
    }

    #[yare::parameterized(
        no_route = { 1, "to=\"https://b.example\"", "judged by the requests of its routes" },
        all_stopped = { 2, "", "would leave no old one to compare it with" },
    )]
    fn a_canary_that_nothing_can_be_said_of_is_refused(count: u32, route: &str, why: &str) {
        let text = format!(
            "service \"web\" {{ image \"nginx\"; port 80; replicas 2; route \"a.example\" {route}\n\
             update order=\"stop-first\" canary={count} for=\"1m\" }}"
        );
        let found = unsupported(&read("f", &text).unwrap());
        assert!(found.len() == 1 && found[0].message.contains(why), "{found:?}");
        assert_eq!(found[0].line, 2);
    }

    #[test]
    fn a_file_without_them_passes() {
        let text = "service \"web\" { image \"nginx\"; port 80; health \"/\"; publish 80; \
                    route \"a.example\" }";
        assert_eq!(unsupported(&read("f", text).unwrap()), Vec::new());
    }
}
