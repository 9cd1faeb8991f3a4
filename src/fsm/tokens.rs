//! API tokens in the state: how many there are, when one ends, and how often one is used.
//!
//! Owns their bound. Never sees a token's secret part: only its hash.

use super::allocation::not_found;
use super::command::GrantToken;
use super::model::{Role, Token};
use super::{Outcome, Rejection, State, Touched};
use crate::id::TokenId;
use crate::limits;
use std::sync::Arc;

impl State {
    /// A token is let in from now on. Those that have ended make room for it.
    pub(super) fn grant_token(
        &mut self,
        grant: GrantToken,
        touched: &mut Touched,
    ) -> Result<Outcome, Rejection> {
        if self.is_next() {
            self.prune_tokens(touched);
            if self.tokens.len() >= limits::TOKENS_MAX && !self.tokens.contains_key(&grant.id) {
                let what = format!("tokens: the cluster keeps {}", limits::TOKENS_MAX);
                return Err(Rejection::TooMany { what });
            }
        }
        let GrantToken { id, role, hash, expires_at, uses } = grant;
        let created_at = self.time;
        let token = Token { id: id.clone(), role, hash, created_at, expires_at, uses };
        self.tokens.insert(id.clone(), Arc::new(token));
        touched.tokens.insert(id);
        Ok(Outcome::Done)
    }

    /// A token is let in no more.
    pub(super) fn revoke_token(
        &mut self,
        id: TokenId,
        touched: &mut Touched,
    ) -> Result<Outcome, Rejection> {
        self.tokens.remove(&id).ok_or_else(|| not_found("token", id.as_str()))?;
        touched.tokens.insert(id);
        Ok(Outcome::Done)
    }

    /// A node joins with a token: the last use ends it.
    pub(super) fn use_token(
        &mut self,
        id: &TokenId,
        touched: &mut Touched,
    ) -> Result<(), Rejection> {
        let token = self.tokens.get(id).ok_or_else(|| not_found("token", id.as_str()))?;
        if token.role != Role::Join || token.expires_at.is_some_and(|at| at <= self.time) {
            let what = format!("token {id} joins no node any more");
            return Err(Rejection::Illegal { what });
        }
        let Some(uses) = token.uses else { return Ok(()) };
        let left = Token { uses: Some(uses.saturating_sub(1)), ..Token::clone(token) };
        match left.uses {
            Some(0) => drop(self.tokens.remove(id)),
            _ => drop(self.tokens.insert(id.clone(), Arc::new(left))),
        }
        touched.tokens.insert(id.clone());
        Ok(())
    }

    fn prune_tokens(&mut self, touched: &mut Touched) {
        let has_ended = |token: &&Arc<Token>| token.expires_at.is_some_and(|at| at <= self.time);
        let ended = self.tokens.values().filter(has_ended).map(|token| token.id.clone());
        for id in ended.collect::<Vec<_>>() {
            self.tokens.remove(&id);
            touched.tokens.insert(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fsm::deploy::tests::{change, running};
    use crate::fsm::{Command, NEXT_LEVEL, apply_next, fixture};
    use crate::units::Timestamp;

    fn next() -> State {
        State { feature_level: NEXT_LEVEL, ..running() }
    }

    fn grant(id: &str, role: Role, expires_at: Option<u64>, uses: Option<u32>) -> Command {
        let (id, hash) = (id.into(), String::new());
        let expires_at = expires_at.map(Timestamp);
        Command::GrantToken(GrantToken { id, role, hash, expires_at, uses })
    }

    fn at(state: &mut State, time: u64, command: Command) -> Result<Outcome, Rejection> {
        apply_next(state, Timestamp(time), command).outcome
    }

    #[test]
    fn those_that_have_ended_make_room() {
        let mut state = next();
        for n in 0..limits::TOKENS_MAX {
            at(&mut state, 10, grant(&format!("t{n}"), Role::Read, Some(20), None)).unwrap();
        }
        let more = || grant("more", Role::Read, None, None);
        let full = at(&mut state, 19, more()).unwrap_err();
        assert!(full.to_string().starts_with("there are too many tokens"), "{full}");
        at(&mut state, 20, more()).unwrap();
        assert_eq!(state.tokens.keys().map(TokenId::as_str).collect::<Vec<_>>(), ["more"]);
    }

    #[test]
    fn before_every_node_bounds_them_none_does() {
        let mut state = State { feature_level: 2, ..running() };
        for n in 0..=limits::TOKENS_MAX {
            at(&mut state, 10, grant(&format!("t{n}"), Role::Read, Some(5), None)).unwrap();
        }
        assert_eq!(state.tokens.len(), limits::TOKENS_MAX + 1);
    }

    #[test]
    fn the_last_use_of_a_join_token_ends_it() {
        let mut state = next();
        at(&mut state, 10, grant("j", Role::Join, Some(100), Some(2))).unwrap();
        let join = |name: &str, token: &str| {
            let token = Some(token.into());
            Command::Join(crate::fsm::command::Join { token, ..fixture::join(name, name) })
        };
        at(&mut state, 11, join("n2", "j")).unwrap();
        // Its answer was lost: it asks again.
        at(&mut state, 12, join("n2", "j")).unwrap();
        assert_eq!(state.tokens[&TokenId::from("j")].uses, Some(1));
        at(&mut state, 13, join("n3", "j")).unwrap();
        assert!(state.tokens.is_empty());
        let refused = at(&mut state, 14, join("n4", "j")).unwrap_err();
        assert_eq!(refused.to_string(), "no token j");
        assert_eq!(state.nodes.len(), 3);

        at(&mut state, 20, grant("late", Role::Join, Some(30), None)).unwrap();
        at(&mut state, 20, grant("read", Role::Read, None, None)).unwrap();
        for token in ["late", "read"] {
            let refused = at(&mut state, 30, join("n5", token)).unwrap_err();
            assert_eq!(refused.to_string(), format!("token {token} joins no node any more"));
        }
        assert_eq!(change(&mut state, join("n6", "late")).is_ok(), state.time.0 < 30);
    }
}
