//! Questions that aren't plain: with options, damaged, of another class, or about other names.
//!
//! Owns what is refused. Never asks a resolver: it says what one should be asked.

use super::answer::{Answer, EDNS_MAX, HEADER, Outcome, answer};
use super::zone::Zone;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Record};

/// What is to be done with a message that isn't plain.
#[derive(Debug)]
pub enum Unusual {
    /// The answer is in the buffer.
    Ready(Outcome),
    /// A resolver knows.
    Forward(Box<Message>),
    /// It is no question.
    Ignore,
}

/// Looks at a message that isn't plain. The first two of its bytes are its number.
pub fn unusual(
    zone: &Zone,
    bytes: &[u8],
    stream: bool,
    rotation: usize,
    out: &mut Vec<u8>,
) -> Unusual {
    let Some([first, second, flags, ..]) = bytes.get(..HEADER) else { return Unusual::Ignore };
    if flags & 0x80 != 0 {
        return Unusual::Ignore;
    }
    let id = u16::from_be_bytes([*first, *second]);
    let Ok(message) = Message::from_vec(bytes) else {
        return refuse(&Message::error_msg(id, OpCode::Query, ResponseCode::FormErr), out);
    };
    if message.metadata.message_type != MessageType::Query {
        return Unusual::Ignore;
    }
    let code = match message.queries.as_slice() {
        _ if message.metadata.op_code != OpCode::Query => ResponseCode::NotImp,
        _ if message.version() > 0 => ResponseCode::BADVERS,
        [query] if query.query_class() == DNSClass::IN => {
            let Some(plain) = plain(&message, query) else {
                return refuse(&reply(&message, ResponseCode::FormErr), out);
            };
            return match answer(zone, &plain, stream, rotation, out) {
                Answer::Ready(outcome) => Unusual::Ready(outcome),
                Answer::NotPlain => Unusual::Forward(Box::new(message)),
            };
        }
        [_] => ResponseCode::Refused,
        _ => ResponseCode::FormErr,
    };
    refuse(&reply(&message, code), out)
}

/// The same question, plain.
fn plain(message: &Message, query: &Query) -> Option<Vec<u8>> {
    let mut plain = Message::query();
    plain.metadata.id = message.metadata.id;
    plain.metadata.recursion_desired = message.metadata.recursion_desired;
    plain.add_query(query.clone());
    if message.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(message.max_payload());
        plain.set_edns(edns);
    }
    plain.to_vec().ok()
}

/// An answer to a question, with that code and no records.
fn reply(message: &Message, code: ResponseCode) -> Message {
    let mut reply = Message::response(message.metadata.id, message.metadata.op_code);
    reply.metadata.recursion_desired = message.metadata.recursion_desired;
    reply.metadata.recursion_available = true;
    reply.metadata.response_code = code;
    reply.add_queries(message.queries.clone());
    if message.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_rcode_high(code.high());
        edns.set_max_payload(EDNS_MAX);
        reply.set_edns(edns);
    }
    reply
}

fn refuse(message: &Message, out: &mut Vec<u8>) -> Unusual {
    match message.to_vec() {
        Ok(bytes) => {
            *out = bytes;
            Unusual::Ready(Outcome::Refused)
        }
        Err(_) => Unusual::Ignore,
    }
}

/// What a resolver answered: a code, records, and what stands for there being none.
#[must_use]
pub fn forwarded(
    message: &Message,
    code: ResponseCode,
    answers: &[Record],
    authorities: &[Record],
    stream: bool,
) -> Option<Vec<u8>> {
    let mut reply = reply(message, code);
    reply.add_answers(answers.iter().cloned());
    reply.add_authorities(authorities.iter().cloned());
    let bytes = reply.to_vec().ok()?;
    let limit = if stream {
        usize::from(u16::MAX)
    } else {
        usize::from(message.max_payload().min(EDNS_MAX))
    };
    if bytes.len() <= limit { Some(bytes) } else { reply.truncate().to_vec().ok() }
}
