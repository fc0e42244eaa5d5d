//! Looks up all records of a name, with the time for which they may be used: the addresses of a name, or the hosts and
//! ports of a service. The C library's getaddrinfo gives neither times nor services.
//!
//! This is a stub: it asks the servers that it is told, or those of the system, and expects them to ask the
//! others. It has no cache, does no validation, and trusts the way to the server, as the C library does.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::timeout;

mod exchange;
mod message;
mod system;

use exchange::{ExchangeError, ask};
pub use message::Record;
use message::{DnsName, Question, QuestionKind, Said};
use system::System;

/// Questions to a server that doesn't answer; one that does isn't asked twice.
const TRIES: u32 = 2;
/// Names that may follow each other by aliases over several answers. Within one answer it is 20.
const MAX_ALIASES: u32 = 8;
/// Most servers of the configuration that are asked.
const MAX_SERVERS: usize = 8;
/// Time for a lookup with all its names, servers and tries.
const WHOLE: Duration = Duration::from_secs(10);

/// The records to look up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// Addresses of both families: A and AAAA.
    Address,
    /// Hosts and ports of a service: SRV (RFC 2782).
    Srv,
}

/// A family of addresses, which is a question of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// A records.
    V4,
    /// AAAA records.
    V6,
}

/// What a lookup has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// At least one record, in the order of the answer. No more than an answer of 64 KiB has.
    pub records: Vec<Record>,
    /// For how long all of them may be used. May be 0.
    pub ttl: Duration,
    /// The family whose question got no answer, while that of the other did.
    pub missing: Option<Family>,
}

/// Why a lookup has found nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// No server can be asked for it: labels have 1 to 63 characters, a name up to 253, and it isn't the root.
    #[error("{name:?} is no name that can be looked up")]
    BadName {
        /// The name as it was given.
        name: String,
    },
    /// The name exists, and has no such record.
    #[error("{name} has no such record")]
    Empty {
        /// The name as it was given.
        name: String,
    },
    /// The name doesn't exist.
    #[error("{name} doesn't exist")]
    NoSuchName {
        /// The name as it was given.
        name: String,
    },
    /// No server has given a usable answer: this says nothing of the name.
    #[error("failed to look up {name}: {reason}")]
    Failed {
        /// The name as it was given.
        name: String,
        /// What came from the last server.
        reason: String,
    },
}

/// Asks name servers.
#[derive(Clone, Debug)]
pub struct Resolver {
    servers: Servers,
}

/// Whom to ask.
#[derive(Clone, Debug)]
enum Servers {
    /// Those of the file, which is read at each lookup.
    System(PathBuf),
    /// These.
    Fixed(Vec<SocketAddr>),
}

impl Resolver {
    /// Asks the servers of `/etc/resolv.conf`, and completes names as that says.
    pub fn system() -> Self {
        Self::of_file("/etc/resolv.conf".into())
    }

    /// Asks these servers, in this order, up to 8 of them; those of the system if there are none. Names are complete as they
    /// are.
    pub fn with_servers(mut servers: Vec<SocketAddr>) -> Self {
        if servers.is_empty() {
            return Self::system();
        }
        servers.truncate(MAX_SERVERS);
        Self {
            servers: Servers::Fixed(servers),
        }
    }

    fn of_file(path: PathBuf) -> Self {
        Self {
            servers: Servers::System(path),
        }
    }

    /// The records of `name`, after 10 s at most. For addresses both families are asked at once.
    ///
    /// # Errors
    /// There is no such record, or no answer: see [`LookupError`].
    pub async fn lookup(&self, name: &str, kind: RecordKind) -> Result<Found, LookupError> {
        let (servers, candidates) = match &self.servers {
            Servers::Fixed(servers) => (servers.clone(), vec![name.to_owned()]),
            Servers::System(path) => {
                let system = System::read(path);
                let candidates = system.candidates(name);
                (system.servers, candidates)
            }
        };
        let lookup = look_up_first(&servers, name, &candidates, kind);
        let late = |_| failed(name, format!("no answer within {} s", WHOLE.as_secs()));
        timeout(WHOLE, lookup).await.map_err(late)?
    }
}

/// The records of the first of `candidates` that has some. A failure ends it: the next name might be somebody else's.
async fn look_up_first(
    servers: &[SocketAddr],
    name: &str,
    candidates: &[String],
    kind: RecordKind,
) -> Result<Found, LookupError> {
    let name = || name.to_owned();
    let (mut exists, mut is_name) = (false, false);
    for candidate in candidates {
        // One that is too long once it is completed is no reason not to try the next.
        let Some(candidate) = parse(candidate) else {
            continue;
        };
        is_name = true;
        match look_up(servers, candidate, kind).await {
            Ok(Outcome::Found(found)) => return Ok(found),
            Ok(Outcome::Empty) => exists = true,
            Ok(Outcome::NoSuchName) => {}
            Err(reason) => return Err(failed(&name(), reason)),
        }
    }
    Err(match (is_name, exists) {
        (false, _) => LookupError::BadName { name: name() },
        (true, true) => LookupError::Empty { name: name() },
        (true, false) => LookupError::NoSuchName { name: name() },
    })
}

fn parse(name: &str) -> Option<DnsName> {
    // The library reads backslashes as the files of name servers have them; no name of ours has one.
    let name = name
        .parse::<DnsName>()
        .ok()
        .filter(|_| !name.contains('\\'))?;
    (!name.is_root()).then_some(name)
}

fn failed(name: &str, reason: String) -> LookupError {
    LookupError::Failed {
        name: name.to_owned(),
        reason,
    }
}

/// What there is to a name.
enum Outcome {
    Found(Found),
    Empty,
    NoSuchName,
}

async fn look_up(
    servers: &[SocketAddr],
    name: DnsName,
    kind: RecordKind,
) -> Result<Outcome, String> {
    let resolve = |kind| {
        follow(
            servers,
            Question {
                name: name.clone(),
                kind,
            },
        )
    };
    match kind {
        RecordKind::Srv => Ok(match resolve(QuestionKind::Srv).await? {
            Said::Records(records, ttl) => found(records, ttl, None),
            Said::NoSuchName => Outcome::NoSuchName,
            Said::Empty | Said::Alias(..) => Outcome::Empty,
        }),
        RecordKind::Address => {
            let both = tokio::join!(resolve(QuestionKind::A), resolve(QuestionKind::Aaaa));
            both_families(both.0, both.1)
        }
    }
}

/// Some servers have no answer to one of the questions, or say that a name doesn't exist that has addresses of the other
/// family. So records of one are enough, and nothing is only said if both have said it.
fn both_families(v4: Result<Said, String>, v6: Result<Said, String>) -> Result<Outcome, String> {
    Ok(match (v4, v6) {
        (Ok(Said::Records(mut records, ttl)), Ok(Said::Records(others, other_ttl))) => {
            records.extend(others);
            found(records, ttl.min(other_ttl), None)
        }
        (Ok(Said::Records(records, ttl)), other) => {
            found(records, ttl, other.err().map(|_| Family::V6))
        }
        (other, Ok(Said::Records(records, ttl))) => {
            found(records, ttl, other.err().map(|_| Family::V4))
        }
        (Err(reason), _) | (_, Err(reason)) => return Err(reason),
        (Ok(Said::NoSuchName), Ok(Said::NoSuchName)) => Outcome::NoSuchName,
        (Ok(_), Ok(_)) => Outcome::Empty,
    })
}

fn found(records: Vec<Record>, ttl: Duration, missing: Option<Family>) -> Outcome {
    Outcome::Found(Found {
        records,
        ttl,
        missing,
    })
}

/// Asks, and asks on where the answer is another name without its records.
async fn follow(servers: &[SocketAddr], mut question: Question) -> Result<Said, String> {
    let mut shortest = Duration::MAX;
    for _ in 0..MAX_ALIASES {
        match ask_servers(servers, &question).await? {
            Said::Alias(name, ttl) => {
                question.name = name;
                shortest = shortest.min(ttl);
            }
            Said::Records(records, ttl) => return Ok(Said::Records(records, ttl.min(shortest))),
            said @ (Said::Empty | Said::NoSuchName) => return Ok(said),
        }
    }
    Err(format!("more than {MAX_ALIASES} names follow each other"))
}

/// The first usable answer of a server.
async fn ask_servers(servers: &[SocketAddr], question: &Question) -> Result<Said, String> {
    let mut failure = String::from("there is no server to ask");
    let mut silent = servers.to_vec();
    for _ in 0..TRIES {
        let mut still_silent = Vec::new();
        for server in silent {
            match ask(server, question).await {
                Ok(said) => return Ok(said),
                Err(error) => {
                    failure = format!("{server}: {error}");
                    if matches!(error, ExchangeError::Silent) {
                        still_silent.push(server);
                    }
                }
            }
        }
        silent = still_silent;
    }
    Err(failure)
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::base::iana::Rcode;
    use domain::base::{Message, MessageBuilder};
    use domain::rdata::Srv;
    use tokio::net::UdpSocket;

    /// Answers questions for services: a name that begins with `has` has one, with `empty` none, with `fails` no answer;
    /// others don't exist.
    async fn serve(socket: UdpSocket) {
        let mut buffer = [0; 2048];
        loop {
            let (length, client) = socket.recv_from(&mut buffer).await.unwrap();
            let query = Message::from_slice(&buffer[..length]).unwrap();
            let name = query.sole_question().unwrap().into_qname();
            let host: DnsName = "host.test".parse().unwrap();
            let (code, count) = match name.to_string() {
                name if name.contains("has") => (Rcode::NOERROR, 1),
                name if name.contains("empty") => (Rcode::NOERROR, 0),
                name if name.contains("fails") => (Rcode::SERVFAIL, 0),
                _ => (Rcode::NXDOMAIN, 0),
            };
            let answer = MessageBuilder::new_vec();
            let mut answer = answer.start_answer(query, code).unwrap();
            for _ in 0..count {
                answer.push((&name, 60, Srv::new(1, 2, 3, &host))).unwrap();
            }
            socket.send_to(&answer.finish(), client).await.unwrap();
        }
    }

    #[tokio::test]
    async fn the_first_name_that_has_records_is_it() {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let server = [socket.local_addr().unwrap()];
        let serving = tokio::spawn(serve(socket));
        let too_long = ["a".repeat(63).as_str(); 5].join(".");
        let cases = [
            (vec!["none.a", "has.b", "fails.c"], Ok(())),
            (vec![&too_long, "empty.a", "has.b"], Ok(())),
            (
                vec!["none.a", "empty.b", "none.c"],
                Err("web has no such record"),
            ),
            (vec!["none.a", "none.b"], Err("web doesn't exist")),
            (
                vec![&too_long, ""],
                Err("\"web\" is no name that can be looked up"),
            ),
            // Another name's records are no substitute for those that can't be had.
            (
                vec!["none.a", "fails.b", "has.c"],
                Err("failed to look up web: "),
            ),
        ];
        for (candidates, expected) in cases {
            let names: Vec<String> = candidates.iter().map(|name| (*name).to_owned()).collect();
            let found = look_up_first(&server, "web", &names, RecordKind::Srv).await;
            match expected {
                Ok(()) => assert_eq!(found.unwrap().records.len(), 1),
                Err(begin) => assert!(found.unwrap_err().to_string().starts_with(begin)),
            }
        }
        serving.abort();
    }
}
