//! Why a request was not passed on, or not to its end.
//!
//! Owns whose fault it is. Never tries again.

use crate::node::ingress::refusal::Refusal;

/// The reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// The client has gone, or doesn't read.
    Client,
    /// The request's chunks can't be read.
    BadBody,
    /// The request's body doesn't come.
    SlowBody,
    /// It is larger than the route takes.
    LargeBody,
    /// The container ended the connection.
    Container,
    /// It sent what is no answer.
    BadAnswer,
    /// It doesn't answer in time.
    Late,
    /// Its answer broke off.
    Midway,
}

impl Broken {
    /// The container's side broke.
    pub(super) fn is_of_container(self) -> bool {
        matches!(self, Self::Container | Self::BadAnswer | Self::Late | Self::Midway)
    }

    /// What a client is told that has seen nothing yet.
    pub(super) fn refusal(self) -> Option<Refusal> {
        match self {
            Self::Client | Self::Midway => None,
            Self::BadBody => Some(Refusal::BadRequest("The request's body can't be read")),
            Self::SlowBody => Some(Refusal::SlowRequest),
            Self::LargeBody => Some(Refusal::BodyTooLarge),
            Self::Container => Some(Refusal::Connect),
            Self::BadAnswer => Some(Refusal::BadAnswer),
            Self::Late => Some(Refusal::Timeout),
        }
    }
}
