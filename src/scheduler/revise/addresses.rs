//! `${service.NAME.address}` → `NAME.mill:PORT`, in the revision that is made.
//!
//! Owns which services a file may name: its own and those of other apps. Never looks at what runs:
//! an address is one of a name.

use super::State;
use crate::id::WorkloadName;
use crate::node::dns::DOMAIN;
use crate::spec::model::{EnvPart, RunSpec, Spec};
use crate::spec::{Parsed, Problem, Target, nearest};

/// Puts addresses in place of the references to services. Answers what can't be found, with its
/// place in the file.
pub fn resolve_addresses(state: &State, parsed: &Parsed, spec: &mut Spec) -> Vec<Problem> {
    let own: Vec<(WorkloadName, Option<u16>)> =
        spec.services.iter().map(|(name, service)| (name.clone(), service.main_port())).collect();
    let port = |name: &WorkloadName| match own.iter().find(|(own, _)| own == name) {
        Some((_, port)) => Some(*port),
        None => elsewhere(state, spec, name),
    };
    let mut problems = Vec::new();
    for reference in parsed.references() {
        let Target::Service(name) = &reference.target else { continue };
        let (message, hint) = match port(name) {
            Some(Some(_)) => continue,
            Some(None) => (
                format!("service {:?} has no main port, so no address", name.as_str()),
                "add port 3000 to it".to_owned(),
            ),
            None => {
                let known = state.apps.values().flat_map(|app| app.services.keys());
                let known = known.chain(spec.services.keys()).map(WorkloadName::as_str);
                let hint = nearest(name.as_str(), &known.collect::<Vec<_>>());
                let hint = hint.map(|near| format!("did you mean {near:?}?"));
                let message =
                    format!("no service {:?} in the file or in the cluster", name.as_str());
                (message, hint.unwrap_or_else(|| "deploy the app that has it first".to_owned()))
            }
        };
        problems.push(parsed.problem_at(reference.span, message, Some(hint)));
    }
    let ports: Vec<(WorkloadName, u16)> = parsed
        .all_references()
        .filter_map(|reference| match &reference.target {
            Target::Service(name) => Some((name.clone(), port(name).flatten()?)),
            Target::Secret(_) => None,
        })
        .collect();
    let services = spec.services.values_mut().map(|service| &mut service.run);
    let tasks = spec.tasks.values_mut().map(|task| &mut task.run);
    services.chain(tasks).for_each(|run| put(run, &ports));
    problems
}

/// The main port of a service of another app, if there is such a one.
fn elsewhere(state: &State, spec: &Spec, name: &WorkloadName) -> Option<Option<u16>> {
    let app = state.owner(name).filter(|app| app.name != spec.app)?;
    let target = app.services.get(name)?.target.as_ref()?;
    Some(state.spec(target)?.spec.service()?.main_port())
}

fn put(run: &mut RunSpec, ports: &[(WorkloadName, u16)]) {
    let files = run.files.iter_mut().map(|file| &mut file.content);
    for part in run.env.values_mut().chain(files).flat_map(|value| &mut value.0) {
        if let EnvPart::Service(name) = part
            && let Some((_, port)) = ports.iter().find(|(known, _)| known == name)
        {
            *part = EnvPart::Text(format!("{name}.{DOMAIN}:{port}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::model::EnvValue;
    use crate::spec::read;

    #[test]
    fn addresses_come_into_variables_and_into_files() {
        let text = "service \"web\" {\n    image \"x:1\"\n    \
                    env { API \"http://${service.api.address}\" }\n    \
                    file path=\"/etc/x\" content=\"a=${service.api.address}\" interpolate=#true\n\
                    }\nservice \"api\" { image \"x:1\"; port 4000 }";
        let parsed = read("shop", text).unwrap();
        let mut spec = parsed.spec.clone();
        assert_eq!(resolve_addresses(&State::default(), &parsed, &mut spec), []);
        let run = &spec.services[&WorkloadName::from("web")].run;
        let whole = |value: &EnvValue| {
            let text = |part: &EnvPart| match part {
                EnvPart::Text(text) => text.clone(),
                other => panic!("{other:?}"),
            };
            value.0.iter().map(text).collect::<String>()
        };
        assert_eq!(whole(&run.env["API"]), "http://api.mill:4000");
        assert_eq!(whole(&run.files[0].content), "a=api.mill:4000");
    }
}
