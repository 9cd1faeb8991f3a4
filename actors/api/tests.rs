//! The API over real sockets, above a root that applies every change at once.

mod access;
mod bounds;
mod certificates;
mod changes;
mod deploy;
mod documents;
mod explain;
mod images;
mod logins;
mod logs;
mod nodes;
mod pauses;
mod reach;
mod secrets;
mod support;
