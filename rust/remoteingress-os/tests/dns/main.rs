//! Lookups of all records of a name, against a scripted name server and against dnsmasq.

#![expect(
    clippy::unwrap_used,
    reason = "in a test a broken assumption should stop it where it is"
)]
#![expect(
    clippy::print_stderr,
    reason = "skipped tests are shown by the test runner"
)]

mod dnsmasq;
mod name_server;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use domain::base::Rtype;
use domain::base::iana::Rcode;
use name_server::{Answer, NameServer, Reply};
use remoteingress_os::dns::{Family, Found, LookupError, Record, RecordKind, Resolver};

fn resolver(servers: &[&NameServer]) -> Resolver {
    Resolver::with_servers(servers.iter().map(|server| server.address).collect())
}

async fn addresses(servers: &[&NameServer]) -> Result<Found, LookupError> {
    resolver(servers)
        .lookup("web.test", RecordKind::Address)
        .await
}

async fn services(servers: &[&NameServer]) -> Result<Found, LookupError> {
    resolver(servers)
        .lookup("_web._tcp.test", RecordKind::Srv)
        .await
}

fn address(text: &str) -> Record {
    Record::Address(text.parse().unwrap())
}

fn service(host: &str, port: u16, priority: u16, weight: u16) -> Record {
    Record::Service {
        host: host.to_owned(),
        port,
        priority,
        weight,
    }
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn reason(result: Result<Found, LookupError>) -> String {
    match result {
        Err(LookupError::Failed { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

/// An A record for A, and nothing for AAAA.
fn one_address(asked: &name_server::Asked, answer: Answer, ip: &str) -> Reply {
    match asked.rtype {
        Rtype::A => answer.a("web.test", 60, ip).send(),
        _ => answer.send(),
    }
}

#[tokio::test]
async fn both_families_are_looked_up_and_the_shortest_time_counts() {
    for (v6_secs, shortest) in [(70, 50), (45, 45)] {
        let server = NameServer::start(move |asked, query| match asked.rtype {
            Rtype::A => {
                let answer = Answer::to(query).a("web.test", 90, "10.0.0.1");
                // Of somebody else, and one that is there twice.
                let answer = answer.a("other.test", 1, "10.0.0.6");
                let answer = answer.a("WEB.test", 50, "10.0.0.2");
                answer.a("web.test", 50, "10.0.0.2").send()
            }
            _ => {
                let answer = Answer::to(query);
                answer.aaaa("web.test", v6_secs, "fd00::1").send()
            }
        })
        .await;
        let found = addresses(&[&server]).await.unwrap();
        let expected = Found {
            records: vec![address("10.0.0.1"), address("10.0.0.2"), address("fd00::1")],
            ttl: secs(shortest),
            missing: None,
        };
        assert_eq!(found, expected);
        let asked = server.asked();
        assert!(asked.iter().all(|asked| asked.has_size && !asked.over_tcp));
    }
}

#[tokio::test]
async fn services_have_their_fields_and_what_is_no_service_is_left_out() {
    let server = NameServer::start(|_, query| {
        let name = "_web._tcp.test";
        let answer = Answer::to(query).srv(name, 30, [10, 5, 8080], "A.test");
        let answer = answer.srv(name, 20, [0, 65_535, 1], "b.test");
        // No port, no host, and a host that is none.
        let answer = answer
            .srv(name, 1, [0, 0, 0], "c.test")
            .srv(name, 1, [0, 0, 1], ".");
        answer.srv(name, 1, [0, 0, 1], "a\\ b.test").send()
    })
    .await;
    let expected = Found {
        records: vec![
            service("a.test", 8080, 10, 5),
            service("b.test", 1, 0, 65_535),
        ],
        ttl: secs(20),
        missing: None,
    };
    assert_eq!(services(&[&server]).await.unwrap(), expected);
}

#[tokio::test]
async fn a_service_that_isnt_there_is_empty() {
    let not_there = |_: &_, query: &_| {
        Answer::to(query)
            .srv("_web._tcp.test", 1, [0, 0, 0], ".")
            .send()
    };
    let server = NameServer::start(not_there).await;
    let name = "_web._tcp.test".to_owned();
    assert_eq!(services(&[&server]).await, Err(LookupError::Empty { name }));
}

#[tokio::test]
async fn what_a_datagram_cant_hold_comes_over_tcp() {
    let server = NameServer::start(|asked, query| {
        let mut answer = Answer::to(query);
        let count = if asked.over_tcp { 300 } else { 20 };
        for number in 0..count {
            let host = format!("host-{number}.test");
            answer = answer.srv("_web._tcp.test", 60, [1, 1, 80], &host);
        }
        if asked.over_tcp {
            answer.send()
        } else {
            answer.truncated().send()
        }
    })
    .await;
    let found = services(&[&server]).await.unwrap();
    let hosts: BTreeSet<String> = found.records.iter().map(|one| format!("{one:?}")).collect();
    assert_eq!((hosts.len(), found.ttl), (300, secs(60)));
    let ways: Vec<bool> = server.asked().iter().map(|asked| asked.over_tcp).collect();
    assert_eq!(ways, [false, true]);
}

#[tokio::test]
async fn half_an_answer_is_never_used() {
    // The TCP side is silent, is for another question, or is truncated too.
    let silent = NameServer::start(|asked, query| {
        let answer = Answer::to(query).srv("_web._tcp.test", 60, [1, 1, 80], "a.test");
        if asked.over_tcp {
            Reply::Silence
        } else {
            answer.truncated().send()
        }
    });
    let wrong = NameServer::start(|asked, query| {
        let mut answer = Answer::to(query).srv("_web._tcp.test", 60, [1, 1, 80], "a.test");
        if asked.over_tcp {
            let id = answer.builder.header().id();
            answer.builder.header_mut().set_id(id ^ 1);
            return answer.send();
        }
        answer.truncated().send()
    });
    let endless = NameServer::start(|_, query| Answer::to(query).truncated().send());
    let (silent, wrong, endless) = tokio::join!(silent, wrong, endless);
    for server in [&wrong, &endless] {
        assert!(reason(services(&[server]).await).ends_with("its answer is damaged"));
    }
    let begin = Instant::now();
    assert!(reason(services(&[&silent]).await).ends_with("no answer within 2 s"));
    assert!(
        (secs(4)..secs(9)).contains(&begin.elapsed()),
        "{:?}",
        begin.elapsed()
    );
}

#[tokio::test]
async fn no_such_name_and_no_such_record_are_told_apart() {
    let none = |_: &_, query: &_| Answer::with_code(query, Rcode::NXDOMAIN).send();
    let server = NameServer::start(none).await;
    let name = "web.test".to_owned();
    let expected = LookupError::NoSuchName { name };
    assert_eq!(addresses(&[&server]).await, Err(expected));

    // Servers of a zone beside an empty answer are only a hint where they are all that there is.
    for answer in [|answer: Answer| answer.send(), Answer::with_start] {
        let server = NameServer::start(move |_, query| answer(Answer::to(query))).await;
        let name = "web.test".to_owned();
        assert_eq!(
            addresses(&[&server]).await,
            Err(LookupError::Empty { name })
        );
    }
    let server = NameServer::start(|_, query| Answer::to(query).referring()).await;
    let reason = reason(addresses(&[&server]).await);
    assert!(reason.contains("sends to other servers"), "{reason}");
}

#[tokio::test]
async fn a_server_that_cant_say_is_passed_over_and_asked_once() {
    let failing = NameServer::start(|asked, query| {
        let code = if asked.rtype == Rtype::A {
            Rcode::SERVFAIL
        } else {
            Rcode::REFUSED
        };
        Answer::with_code(query, code).send()
    })
    .await;
    let reason = reason(services(&[&failing]).await);
    assert_eq!(reason, format!("{}: it answers REFUSED", failing.address));
    assert_eq!(failing.asked().len(), 1);

    let good = NameServer::start(|asked, query| one_address(asked, Answer::to(query), "10.0.0.1"));
    let good = good.await;
    let found = addresses(&[&failing, &good]).await.unwrap();
    assert_eq!(
        (found.records, found.missing),
        (vec![address("10.0.0.1")], None)
    );
}

#[tokio::test]
async fn a_silent_server_is_asked_twice_and_the_next_one_answers() {
    let silent = NameServer::start(|_, _| Reply::Silence).await;
    let begin = Instant::now();
    assert!(reason(services(&[&silent]).await).ends_with("no answer within 2 s"));
    assert!(
        (secs(4)..secs(9)).contains(&begin.elapsed()),
        "{:?}",
        begin.elapsed()
    );
    assert_eq!(silent.asked().len(), 2);

    // The next one is asked before it is asked again.
    let begin = Instant::now();
    let good = NameServer::start(|asked, query| one_address(asked, Answer::to(query), "10.0.0.1"));
    let good = good.await;
    let found = addresses(&[&silent, &good]).await.unwrap();
    assert_eq!(found.records, [address("10.0.0.1")]);
    assert!(begin.elapsed() >= secs(2));
    assert_eq!(silent.asked().len(), 4);
}

#[tokio::test]
async fn a_lookup_ends_however_many_servers_are_silent() {
    let silent = NameServer::start(|_, _| Reply::Silence).await;
    let begin = Instant::now();
    let reason = reason(services(&[&silent; 20]).await);
    assert_eq!(reason, "no answer within 10 s");
    assert!(
        (secs(10)..secs(14)).contains(&begin.elapsed()),
        "{:?}",
        begin.elapsed()
    );
}

#[tokio::test]
async fn a_question_that_was_lost_is_asked_again() {
    let server = NameServer::start(|asked, query| {
        if asked.earlier == 0 {
            return Reply::Silence;
        }
        one_address(asked, Answer::to(query), "10.0.0.1")
    })
    .await;
    let found = addresses(&[&server]).await.unwrap();
    assert_eq!(found.records, [address("10.0.0.1")]);
}

#[tokio::test]
async fn nobody_at_the_port_fails_at_once() {
    let nobody: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let begin = Instant::now();
    let resolver = Resolver::with_servers(vec![nobody]);
    let result = resolver.lookup("web.test", RecordKind::Address).await;
    assert!(reason(result).starts_with("127.0.0.1:1: "));
    // Silence would take twice 2 s.
    assert!(begin.elapsed() < secs(4));
}

#[tokio::test]
async fn answers_to_other_questions_are_ignored() {
    let server = NameServer::start(|asked, query| {
        let forged = |change: &dyn Fn(&mut Answer)| {
            let mut answer = Answer::to(query).a("web.test", 60, "10.6.6.6");
            change(&mut answer);
            answer.finish()
        };
        let id = query.header().id();
        let mut other_name = forged(&|_| ());
        // The first letter of the name in the question.
        other_name[13] = b'v';
        let mut other_type = forged(&|_| ());
        other_type[12 + "web.test".len() + 2 + 1] = 16;
        let messages = vec![
            forged(&|answer| answer.builder.header_mut().set_id(id.wrapping_add(1))),
            forged(&|answer| answer.builder.header_mut().set_qr(false)),
            other_name,
            other_type,
            b"short".to_vec(),
            vec![0xFF; 900],
        ];
        let Reply::Messages(last) = one_address(asked, Answer::to(query), "10.0.0.1") else {
            unreachable!()
        };
        Reply::Messages([messages, last].concat())
    })
    .await;
    let found = addresses(&[&server]).await.unwrap();
    assert_eq!(found.records, [address("10.0.0.1")]);
    assert_eq!(server.asked().len(), 2);
}

#[tokio::test]
async fn ids_are_not_foreseeable() {
    let ids = std::sync::Arc::new(std::sync::Mutex::new(BTreeSet::new()));
    let seen = std::sync::Arc::clone(&ids);
    let server = NameServer::start(move |_, query| {
        seen.lock().unwrap().insert(query.header().id());
        Answer::to(query).send()
    })
    .await;
    for _ in 0..20 {
        services(&[&server]).await.unwrap_err();
    }
    let ids = ids.lock().unwrap();
    assert!(ids.len() >= 18, "{ids:?}");
    let steps = ids
        .iter()
        .zip(ids.iter().skip(1))
        .filter(|(one, next)| *next - *one == 1);
    assert!(steps.count() < 5, "{ids:?}");
}

#[tokio::test]
async fn aliases_are_followed_in_one_answer_and_over_several() {
    let whole = NameServer::start(|asked, query| {
        let answer = Answer::to(query).a("c.test", 90, "10.0.0.1");
        let answer = answer
            .cname("b.test", 80, "c.test")
            .cname("web.test", 40, "b.test");
        if asked.rtype == Rtype::A {
            answer.send()
        } else {
            Answer::to(query).send()
        }
    })
    .await;
    let found = addresses(&[&whole]).await.unwrap();
    assert_eq!(
        (found.records, found.ttl),
        (vec![address("10.0.0.1")], secs(40))
    );

    let parts = NameServer::start(|asked, query| {
        let answer = Answer::to(query);
        match asked.name.as_str() {
            "_web._tcp.test" => answer.cname("_web._tcp.test", 15, "b.test").send(),
            "b.test" => answer.cname("b.test", 80, "c.test").send(),
            _ => answer.srv("c.test", 60, [1, 2, 3], "host.test").send(),
        }
    })
    .await;
    let found = services(&[&parts]).await.unwrap();
    assert_eq!(
        (found.records, found.ttl),
        (vec![service("host.test", 3, 1, 2)], secs(15))
    );
}

#[tokio::test]
async fn aliases_that_end_nowhere_are_failures() {
    let circle = NameServer::start(|_, query| {
        let answer = Answer::to(query).cname("_web._tcp.test", 1, "b.test");
        answer.cname("b.test", 1, "_web._tcp.test").send()
    })
    .await;
    assert!(reason(services(&[&circle]).await).ends_with("its answer is damaged"));
    // A new name in each answer.
    let ever = NameServer::start(|asked, query| {
        let next = format!("x{}.test", asked.name.len() % 50);
        let next = format!(
            "a{}",
            if asked.name.len() < 40 {
                asked.name.clone()
            } else {
                next
            }
        );
        Answer::to(query).cname(&asked.name, 1, &next).send()
    })
    .await;
    assert!(reason(services(&[&ever]).await).contains("follow each other"));
    assert_eq!(ever.asked().len(), 8);
}

#[tokio::test]
async fn a_family_without_an_answer_is_named() {
    for (lacking, rtype, family) in [
        ("fd00::1", Rtype::A, Family::V4),
        ("10.0.0.1", Rtype::AAAA, Family::V6),
    ] {
        let server = NameServer::start(move |asked, query| match asked.rtype {
            asked if asked == rtype => Answer::with_code(query, Rcode::SERVFAIL).send(),
            Rtype::A => Answer::to(query).a("web.test", 5, "10.0.0.1").send(),
            _ => Answer::to(query).aaaa("web.test", 5, "fd00::1").send(),
        })
        .await;
        let found = addresses(&[&server]).await.unwrap();
        assert_eq!(
            (found.records, found.missing),
            (vec![address(lacking)], Some(family))
        );
    }
    // Nothing of one family, and no answer about the other.
    let server = NameServer::start(|asked, query| {
        let code = if asked.rtype == Rtype::A {
            Rcode::NXDOMAIN
        } else {
            Rcode::SERVFAIL
        };
        Answer::with_code(query, code).send()
    })
    .await;
    assert!(reason(addresses(&[&server]).await).ends_with("SERVFAIL"));
    // A server that says of a name with addresses that it has none of the other family, in the wrong words.
    let server = NameServer::start(|asked, query| match asked.rtype {
        Rtype::A => Answer::to(query).a("web.test", 5, "10.0.0.1").send(),
        _ => Answer::with_code(query, Rcode::NXDOMAIN).send(),
    })
    .await;
    assert_eq!(addresses(&[&server]).await.unwrap().missing, None);
}

#[tokio::test]
async fn an_old_server_is_asked_in_the_old_way() {
    for code in [Rcode::FORMERR, Rcode::NOTIMP] {
        let server = NameServer::start(move |asked, query| {
            if asked.has_size {
                return Answer::with_code(query, code).send();
            }
            Answer::to(query)
                .srv("_web._tcp.test", 7, [1, 2, 3], "a.test")
                .send()
        })
        .await;
        assert_eq!(services(&[&server]).await.unwrap().ttl, secs(7));
        assert_eq!(server.asked().len(), 2);
    }
}

#[tokio::test]
async fn a_time_that_is_negative_is_none() {
    let server = NameServer::start(|_, query| {
        let answer = Answer::to(query).srv("_web._tcp.test", u32::MAX, [1, 2, 3], "a.test");
        answer.srv("_web._tcp.test", 60, [1, 2, 3], "b.test").send()
    })
    .await;
    assert_eq!(services(&[&server]).await.unwrap().ttl, secs(0));
}

#[tokio::test]
async fn what_is_no_name_isnt_asked_for() {
    let server = NameServer::start(|_, query| Answer::to(query).send()).await;
    let resolver = resolver(&[&server]);
    let long = ["a".repeat(63).as_str(); 5].join(".");
    for name in [
        "",
        ".",
        "a..b",
        &"a".repeat(64),
        &long,
        "a\\.b",
        ".a",
        "a\\",
    ] {
        let result = resolver.lookup(name, RecordKind::Address).await;
        let name = name.to_owned();
        assert_eq!(result, Err(LookupError::BadName { name }));
    }
    assert_eq!(server.asked(), []);
    // A dot at the end is part of no name.
    let result = resolver.lookup("web.test.", RecordKind::Srv).await;
    assert!(matches!(result, Err(LookupError::Empty { .. })));
    assert_eq!(server.asked()[0].name, "web.test");
}
