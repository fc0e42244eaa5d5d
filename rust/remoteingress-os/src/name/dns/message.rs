//! Questions to a name server, and what its answers say.

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Duration;

use domain::base::iana::{Class, Rcode};
use domain::base::{Message, MessageBuilder, Name, ParsedName, Rtype, ToName};
use domain::rdata::{A, Aaaa, Cname, Ns, Soa, Srv};

/// A name in the form of messages.
pub(super) type DnsName = Name<Vec<u8>>;

/// Bytes of the largest datagram that servers are told to send: larger ones are cut to pieces on some ways (DNS flag day
/// 2020; RFC 9715, section 3).
const MAX_DATAGRAM: u16 = 1232;
/// Aliases in one answer. The library follows 20, and reads the answer once for each.
const MAX_ALIASES: u32 = 20;

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// An address of the name. It isn't checked: see `is_special` in the configuration's crate.
    Address(IpAddr),
    /// A host of the service.
    Service {
        /// Name of the host, in small letters and without a dot at its end. It isn't looked up.
        host: String,
        /// Its port, not 0.
        port: u16,
        /// Hosts of higher numbers are for when all of lower ones are out.
        priority: u16,
        /// Share among hosts of the same priority.
        weight: u16,
    },
}

/// A question.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) name: DnsName,
    pub(super) kind: QuestionKind,
}

/// The type of records that a question is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum QuestionKind {
    A,
    Aaaa,
    Srv,
}

/// What an answer says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// The records of the name, and how long they may be used.
    Records(Vec<Record>, Duration),
    /// The name stands for this one, whose records aren't in the answer.
    Alias(DnsName, Duration),
    /// It has no records of this type.
    Empty,
    /// It doesn't exist.
    NoSuchName,
}

/// Why an answer says nothing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unusable {
    #[error("it answers {0}")]
    Refused(Rcode),
    #[error("its answer is damaged")]
    Damaged,
    #[error("it sends to other servers, and doesn't ask them itself")]
    Referral,
}

impl Question {
    /// Bytes of the message that asks it. `with_size` tells the server how large a datagram may be, which a few servers
    /// don't understand; `None` where the name leaves no room.
    pub(super) fn encode(&self, id: u16, with_size: bool) -> Option<Vec<u8>> {
        let mut message = MessageBuilder::new_vec();
        message.header_mut().set_id(id);
        message.header_mut().set_rd(true);
        let mut message = message.question();
        message
            .push((&self.name, self.kind.rtype(), Class::IN))
            .ok()?;
        let mut message = message.additional();
        if with_size {
            let sized = message.opt(|options| {
                options.set_udp_payload_size(MAX_DATAGRAM);
                Ok(())
            });
            sized.ok()?;
        }
        Some(message.finish())
    }

    /// What `answer` says, which is one to this question.
    pub(super) fn decode(&self, answer: &Message<[u8]>) -> Result<Said, Unusable> {
        match answer.header().rcode() {
            Rcode::NOERROR => {}
            Rcode::NXDOMAIN => return Ok(Said::NoSuchName),
            other => return Err(Unusable::Refused(other)),
        }
        let aliases = shortest_alias(answer)?;
        // A chain of names that ends nowhere has none.
        let name = answer.canonical_name().ok_or(Unusable::Damaged)?;
        let (records, ttl) = match self.kind {
            QuestionKind::A => addresses(answer, &name, |a: &A| IpAddr::V4(a.addr()))?,
            QuestionKind::Aaaa => addresses(answer, &name, |aaaa: &Aaaa| IpAddr::V6(aaaa.addr()))?,
            QuestionKind::Srv => services(answer, &name)?,
        };
        if !records.is_empty() {
            return Ok(Said::Records(records, ttl.min(aliases)));
        }
        if name != self.name {
            let name = name.try_to_name().map_err(|_| Unusable::Damaged)?;
            return Ok(Said::Alias(name, aliases));
        }
        if is_referral(answer)? {
            return Err(Unusable::Referral);
        }
        Ok(Said::Empty)
    }
}

impl QuestionKind {
    fn rtype(self) -> Rtype {
        match self {
            Self::A => Rtype::A,
            Self::Aaaa => Rtype::AAAA,
            Self::Srv => Rtype::SRV,
        }
    }
}

type Found = (Vec<Record>, Duration);

fn addresses<'a, Data>(
    answer: &'a Message<[u8]>,
    name: &ParsedName<&[u8]>,
    address: impl Fn(&Data) -> IpAddr,
) -> Result<Found, Unusable>
where
    Data: domain::base::ParseRecordData<'a, [u8]>,
{
    let mut seen = HashSet::new();
    let (mut records, mut shortest) = (Vec::new(), Duration::MAX);
    let section = answer.answer().map_err(|_| Unusable::Damaged)?;
    for record in section.limit_to_in::<Data>() {
        let record = record.map_err(|_| Unusable::Damaged)?;
        let found = address(record.data());
        if record.owner() == name && seen.insert(found) {
            records.push(Record::Address(found));
            shortest = shortest.min(ttl(record.ttl().as_secs()));
        }
    }
    Ok((records, shortest))
}

fn services(answer: &Message<[u8]>, name: &ParsedName<&[u8]>) -> Result<Found, Unusable> {
    let (mut records, mut shortest) = (Vec::new(), Duration::MAX);
    let section = answer.answer().map_err(|_| Unusable::Damaged)?;
    for record in section.limit_to_in::<Srv<_>>() {
        let record = record.map_err(|_| Unusable::Damaged)?;
        let service = record.data();
        let Some(host) = host(service.target()) else {
            continue;
        };
        if record.owner() == name && service.port() != 0 {
            records.push(Record::Service {
                host,
                port: service.port(),
                priority: service.priority(),
                weight: service.weight(),
            });
            shortest = shortest.min(ttl(record.ttl().as_secs()));
        }
    }
    Ok((records, shortest))
}

/// The name of a host, in small letters and without a dot at its end. The root says that the service isn't there (RFC
/// 2782); names with other than the letters of hosts and `_` can't be looked up, and could be mistaken in logs.
fn host(name: &ParsedName<&[u8]>) -> Option<String> {
    let text = name.to_string().to_ascii_lowercase();
    let text = text.trim_end_matches('.');
    let is_of_hosts = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (!text.is_empty() && text.bytes().all(is_of_hosts)).then(|| text.to_owned())
}

/// The shortest time of the aliases in an answer; the longest of all if there are none. Too many make it unusable.
fn shortest_alias(answer: &Message<[u8]>) -> Result<Duration, Unusable> {
    let (mut shortest, mut count) = (Duration::MAX, 0);
    let section = answer.answer().map_err(|_| Unusable::Damaged)?;
    for record in section.limit_to_in::<Cname<_>>() {
        let record = record.map_err(|_| Unusable::Damaged)?;
        shortest = shortest.min(ttl(record.ttl().as_secs()));
        count += 1;
    }
    if count > MAX_ALIASES {
        return Err(Unusable::Damaged);
    }
    Ok(shortest)
}

/// True for the answer of a server that knows only who else may know: it has servers of the name, and neither is it one of
/// them nor does it say that the name has nothing.
fn is_referral(answer: &Message<[u8]>) -> Result<bool, Unusable> {
    if answer.header().aa() {
        return Ok(false);
    }
    let section = || answer.authority().map_err(|_| Unusable::Damaged);
    let has_servers = section()?.limit_to_in::<Ns<_>>().next().is_some();
    let has_start = section()?.limit_to_in::<Soa<_>>().next().is_some();
    Ok(has_servers && !has_start)
}

/// A time with its highest bit set is 0 (RFC 2181, section 8).
fn ttl(secs: u32) -> Duration {
    let secs = if secs > i32::MAX.unsigned_abs() {
        0
    } else {
        secs
    };
    Duration::from_secs(secs.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn question(kind: QuestionKind) -> Question {
        let name = "_web._tcp.test".parse().unwrap();
        Question { name, kind }
    }

    /// An answer with an alias and records of each type, its names shortened by pointers.
    fn answer(count: u8) -> Vec<u8> {
        let name: DnsName = "_web._tcp.test".parse().unwrap();
        let target: DnsName = "target.test".parse().unwrap();
        let question = question(QuestionKind::Srv).encode(7, true).unwrap();
        let question = Message::from_octets(question).unwrap();
        let target_builder = domain::base::TreeCompressor::new(Vec::new());
        let builder = MessageBuilder::from_target(target_builder).unwrap();
        let mut answer = builder.start_answer(&question, Rcode::NOERROR).unwrap();
        let alias = Cname::new(target.clone());
        answer.push((&name, 60, alias)).unwrap();
        for number in 0..count {
            let srv = Srv::new(1, 2, 3, target.clone());
            answer.push((&target, 60, srv)).unwrap();
            let a = A::from_octets(10, 0, 0, number);
            answer.push((&target, 60, a)).unwrap();
            let aaaa = Aaaa::new([u16::from(number); 8].into());
            answer.push((&target, 60, aaaa)).unwrap();
        }
        answer.finish().into_target()
    }

    fn decode(bytes: &[u8]) -> Vec<Result<Said, Unusable>> {
        let Ok(message) = Message::from_slice(bytes) else {
            return Vec::new();
        };
        let kinds = [QuestionKind::A, QuestionKind::Aaaa, QuestionKind::Srv];
        kinds.map(|kind| question(kind).decode(message)).into()
    }

    #[test]
    fn a_whole_answer_has_all_its_records() {
        for said in decode(&answer(9)) {
            let Ok(Said::Records(records, ttl)) = said else {
                panic!("{said:?}");
            };
            assert_eq!((records.len(), ttl), (9, Duration::from_secs(60)));
        }
    }

    #[test]
    fn an_answer_with_too_many_aliases_is_unusable() {
        let aliases = |count: usize| {
            let question = Message::from_octets(question(QuestionKind::A).encode(7, true).unwrap());
            let builder = MessageBuilder::new_vec();
            let question = question.unwrap();
            let mut answer = builder.start_answer(&question, Rcode::NOERROR).unwrap();
            for number in 0..count {
                let owner: DnsName = format!("a{number}.test").parse().unwrap();
                answer
                    .push((owner, 60, Cname::new("b.test".parse::<DnsName>().unwrap())))
                    .unwrap();
            }
            decode(&answer.finish()).remove(0)
        };
        assert_eq!(aliases(20), Ok(Said::Empty));
        assert_eq!(aliases(21), Err(Unusable::Damaged));
    }

    #[test]
    fn an_answer_that_is_cut_anywhere_says_nothing() {
        let whole = answer(5);
        for length in 0..whole.len() {
            for said in decode(&whole[..length]) {
                assert_eq!(said, Err(Unusable::Damaged), "cut to {length}");
            }
        }
    }

    proptest! {
        /// Whatever bytes come: no panic, and no more than fits.
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            is_bounded(&bytes)?;
        }

        /// Bytes that are changed here and there get further than those of chance.
        #[test]
        fn damage_is_survived(
            count in 0..40_u8,
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..9),
        ) {
            let mut bytes = answer(count);
            for (at, byte) in damage {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            is_bounded(&bytes)?;
        }
    }

    fn is_bounded(bytes: &[u8]) -> Result<(), TestCaseError> {
        for said in decode(bytes) {
            if let Ok(Said::Records(records, _)) = said {
                // A record has at least 11 bytes, and those of an address or a host more.
                prop_assert!(!records.is_empty() && records.len() <= bytes.len() / 11);
            }
        }
        Ok(())
    }
}
