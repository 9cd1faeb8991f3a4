//! Command names: those of other programs, those of later, and the nearest to a misspelt one.
//!
//! Owns what is answered to a name that is no command. Never runs one.

/// Commands that are another's by a second name.
const ALIASES: [(&str, &str); 1] = [("deploy", "up")];

/// Commands of other programs, and what does the same here.
const ELSEWHERE: &[(&str, &str)] = &[
    ("rm", "mill down SERVICE (or mill scale SERVICE 0)"),
    ("stop", "mill down SERVICE (or mill scale SERVICE 0)"),
    ("run", "mill up FILE (or mill dev --run IMAGE --port 80)"),
    ("start", "mill up FILE"),
    ("compose", "mill up FILE (or mill ps, mill logs, mill down)"),
    ("apply", "mill up FILE"),
    ("create", "mill up FILE"),
    ("launch", "mill up FILE"),
    ("edit", "mill up FILE after a change of it"),
    ("pull", "mill up FILE: it pulls missing images"),
    ("push", "docker save IMAGE | mill image load -"),
    ("build", "docker build, then docker save IMAGE | mill image load -"),
    ("serve", "mill dev or mill daemon"),
    ("agent", "mill daemon"),
    ("delete", "mill down SERVICE"),
    ("destroy", "mill down --all"),
    ("stat", "mill status"),
    ("info", "mill status"),
    ("get", "mill ps (or mill status, mill nodes, mill show SERVICE)"),
    ("list", "mill ps"),
    ("ls", "mill ps"),
    ("alloc", "mill ps"),
    ("pods", "mill ps"),
    ("service", "mill status (or mill ps SERVICE)"),
    ("services", "mill status"),
    ("apps", "mill status"),
    ("task", "mill status (or mill spawn TASK)"),
    ("tasks", "mill status"),
    ("job", "mill status"),
    ("images", "mill image list"),
    ("rmi", "mill image remove IMAGE"),
    ("load", "mill image load FILE"),
    ("secrets", "mill secret list"),
    ("volumes", "mill volume list"),
    ("tokens", "mill token list"),
    ("routes", "mill route list"),
    ("certs", "mill cert list"),
    ("certificates", "mill cert list"),
    ("node", "mill nodes"),
    ("inspect", "mill show SERVICE"),
    ("describe", "mill show SERVICE (or mill why SERVICE)"),
    ("cat", "mill show APP"),
    ("log", "mill logs NAME"),
    ("tail", "mill logs -f NAME"),
    ("attach", "mill logs -f NAME (or mill up --attach REV)"),
    ("ssh", "mill exec -it NAME"),
    ("sh", "mill exec -it NAME"),
    ("shell", "mill exec -it NAME"),
    ("console", "mill exec -it NAME"),
    ("validate", "mill check FILE"),
    ("lint", "mill check FILE"),
    ("config", "mill check FILE (or mill show)"),
    ("format", "mill fmt FILE"),
    ("releases", "mill history"),
    ("rollout", "mill restart SERVICE (or mill rollback)"),
    ("revert", "mill rollback"),
    ("cordon", "mill drain NODE"),
    ("uncordon", "mill undrain NODE"),
    ("taint", "mill label NODE k=v"),
    ("prune", "mill clean"),
    ("promote", "mill up --promote"),
    ("abort", "mill up --abort"),
    ("swarm", "mill init (or mill join HOST --token T)"),
    ("network", "mill nodes --wide"),
    ("ingress", "mill route list"),
    ("provider", "mill volume provider NAME"),
    ("snapshot", "mill backup FILE"),
    ("migrate", "mill volume move NAME NODE"),
    ("context", "mill login ADDRESS --token TOKEN"),
    ("system", "mill status (or mill doctor)"),
    ("watch", "mill status --watch"),
];

/// The second word of other programs' commands, and those that do the same here.
const SECOND: &[(&str, &[&str])] = &[
    ("ls", &["list"]),
    ("ps", &["list"]),
    ("rm", &["remove", "delete", "revoke"]),
    ("delete", &["remove", "revoke"]),
    ("remove", &["delete", "revoke"]),
    ("show", &["get", "list"]),
    ("inspect", &["get", "list"]),
    ("describe", &["get", "list"]),
    ("create", &["set"]),
    ("add", &["set", "create", "load", "import"]),
    ("put", &["set"]),
];

/// What a name stands for that no command has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// Another command does it.
    Instead(&'static str),
    /// Perhaps this one was meant.
    Near(String),
    /// Nothing is like it.
    Nothing,
}

/// The name that the command is filed under.
#[must_use]
pub fn canonical(name: &str) -> &str {
    ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, real)| real)
}

/// Sorts a name that isn't among `commands`; `parent` is empty or the command it follows.
#[must_use]
pub fn unknown(parent: &str, name: &str, commands: &[&str]) -> Unknown {
    let elsewhere = ELSEWHERE.iter().find(|(other, _)| *other == name && parent.is_empty());
    if let Some((_, instead)) = elsewhere {
        return Unknown::Instead(instead);
    }
    let second = SECOND.iter().filter(|(other, _)| *other == name && !parent.is_empty());
    let mut second = second.flat_map(|(_, here)| here.iter());
    if let Some(same) = second.find(|here| commands.contains(here)) {
        return Unknown::Near((*same).to_owned());
    }
    let aliases = ALIASES.iter().map(|(alias, _)| *alias).filter(|_| parent.is_empty());
    match nearest(name, commands.iter().copied().chain(aliases)) {
        Some(near) => Unknown::Near(near.to_owned()),
        None => Unknown::Nothing,
    }
}

/// The candidate that differs least, if it differs little.
#[must_use]
pub fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (name.chars().count() / 3).clamp(1, 3);
    candidates
        .map(|candidate| (strsim::osa_distance(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMANDS: [&str; 5] = ["up", "down", "status", "restart", "history"];

    #[test]
    fn names_of_other_programs_get_the_right_command() {
        let words = "rm stop run stat get describe pull service ls compose promote network watch";
        for name in words.split(' ') {
            let Unknown::Instead(text) = unknown("", name, &COMMANDS) else { panic!("{name}") };
            assert!(text.starts_with("mill "), "{text}");
        }
    }

    #[test]
    fn second_words_of_other_programs_get_the_one_that_is_here() {
        let near = |name: &str| Unknown::Near(name.to_owned());
        assert_eq!(unknown("image", "ls", &["load", "list", "remove"]), near("list"));
        assert_eq!(unknown("image", "rm", &["load", "list", "remove"]), near("remove"));
        assert_eq!(unknown("volume", "rm", &["list", "delete"]), near("delete"));
        assert_eq!(unknown("secret", "describe", &["set", "get", "list"]), near("get"));
        assert_eq!(unknown("cert", "add", &["list", "renew", "import"]), near("import"));
    }

    #[test]
    fn misspelt_names_suggest_the_nearest() {
        assert_eq!(unknown("", "statsu", &COMMANDS), Unknown::Near("status".to_owned()));
        assert_eq!(unknown("", "histroy", &COMMANDS), Unknown::Near("history".to_owned()));
        assert_eq!(unknown("", "deply", &COMMANDS), Unknown::Near("deploy".to_owned()));
        assert_eq!(unknown("", "frobnicate", &COMMANDS), Unknown::Nothing);
    }
}
