//! What the format can say and nothing can carry out.
//!
//! Owns these rules, each over several fields. Never refuses a file by itself.

use super::model::{ServiceSpec, UpdateOrder};
use super::parsed::Parsed;
use super::report::Problem;

/// Everything in a file that can't be carried out, with its place.
#[must_use]
pub fn unsupported(parsed: &Parsed) -> Vec<Problem> {
    let mut problems = Vec::new();
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

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::*;

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
