//! Lookups against dnsmasq, which others wrote.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use remoteingress_os::dns::{LookupError, Record, RecordKind, Resolver};

/// A dnsmasq that knows only the names of its test.
struct Dnsmasq {
    process: Child,
    port: u16,
}

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Dnsmasq {
    /// `None` where it isn't installed.
    async fn start(arguments: &[String]) -> Option<Self> {
        let places = [
            "/usr/sbin/dnsmasq",
            "/usr/bin/dnsmasq",
            "/usr/local/sbin/dnsmasq",
        ];
        let Some(program) = places
            .map(PathBuf::from)
            .into_iter()
            .find(|path| path.exists())
        else {
            let required = std::env::var("REMOTEINGRESS_REQUIRE_PEERS").is_ok_and(|it| it == "1");
            assert!(
                !required,
                "dnsmasq is missing and REMOTEINGRESS_REQUIRE_PEERS=1"
            );
            eprintln!("SKIPPED: dnsmasq is missing");
            return None;
        };
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let mut command = Command::new(program);
        command.args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--pid-file",
        ]);
        command.args([
            "--no-resolv",
            "--no-hosts",
            "--no-poll",
            "--bind-interfaces",
        ]);
        command.args([
            "--listen-address=127.0.0.1",
            "--local=/test/",
            "--local-ttl=42",
        ]);
        command.arg(format!("--port={port}")).args(arguments);
        // As root it would become somebody who can't read the test's files.
        command.arg("--user=").arg("--group=").stdin(Stdio::null());
        let process = command.spawn().unwrap();
        let mut started = Self { process, port };
        let (resolver, begin) = (started.resolver(), Instant::now());
        while let Err(error @ LookupError::Failed { .. }) =
            resolver.lookup("none.test", RecordKind::Srv).await
        {
            assert_eq!(started.process.try_wait().unwrap(), None, "it has ended");
            assert!(begin.elapsed() < Duration::from_secs(20), "{error}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Some(started)
    }

    fn resolver(&self) -> Resolver {
        Resolver::with_servers(vec![([127, 0, 0, 1], self.port).into()])
    }
}

#[tokio::test]
async fn dnsmasq_gives_addresses_services_and_what_isnt_there() {
    let arguments = [
        "--host-record=web.test,10.0.0.1,fd00::1",
        "--host-record=one.test,10.0.0.2",
        "--cname=alias.test,web.test",
        "--srv-host=_web._tcp.test,A.test,8080,10,5",
        "--srv-host=_web._tcp.test,b.test,8081,20,0",
    ];
    let Some(server) = Dnsmasq::start(&arguments.map(str::to_owned)).await else {
        return;
    };
    let resolver = server.resolver();
    for name in ["web.test", "alias.test", "WEB.test."] {
        let found = resolver.lookup(name, RecordKind::Address).await.unwrap();
        let expected = ["10.0.0.1", "fd00::1"].map(|ip| Record::Address(ip.parse().unwrap()));
        assert_eq!(
            (found.records.as_slice(), found.missing),
            (expected.as_slice(), None)
        );
        assert_eq!(found.ttl, Duration::from_secs(42));
    }
    let found = resolver
        .lookup("one.test", RecordKind::Address)
        .await
        .unwrap();
    assert_eq!(
        found.records,
        [Record::Address("10.0.0.2".parse().unwrap())]
    );

    let found = resolver
        .lookup("_web._tcp.test", RecordKind::Srv)
        .await
        .unwrap();
    let found: BTreeSet<String> = found.records.iter().map(shown).collect();
    assert_eq!(
        found,
        ["a.test 8080 10 5", "b.test 8081 20 0"]
            .map(str::to_owned)
            .into()
    );

    let result = resolver.lookup("none.test", RecordKind::Address).await;
    assert!(
        matches!(result, Err(LookupError::NoSuchName { .. })),
        "{result:?}"
    );
    let result = resolver.lookup("web.test", RecordKind::Srv).await;
    assert!(
        matches!(result, Err(LookupError::Empty { .. })),
        "{result:?}"
    );
    // No server stands behind it.
    let result = resolver.lookup("example.com", RecordKind::Address).await;
    assert!(
        matches!(result, Err(LookupError::Failed { .. })),
        "{result:?}"
    );
}

#[tokio::test]
async fn dnsmasq_gives_300_addresses_over_tcp() {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let hosts = directory.join(format!("dnsmasq-hosts-{}", std::process::id()));
    let mut text = String::new();
    for number in 0..300 {
        writeln!(text, "10.0.{}.{} many.test", number / 200, number % 200 + 1).unwrap();
    }
    std::fs::write(&hosts, text).unwrap();
    let argument = format!("--addn-hosts={}", hosts.display());
    let server = Dnsmasq::start(&[argument]).await;
    let Some(server) = server else {
        return;
    };
    let found = server
        .resolver()
        .lookup("many.test", RecordKind::Address)
        .await
        .unwrap();
    let addresses: BTreeSet<String> = found.records.iter().map(shown).collect();
    assert_eq!((addresses.len(), found.records.len()), (300, 300));
    std::fs::remove_file(&hosts).unwrap();
}

fn shown(record: &Record) -> String {
    match record {
        Record::Address(address) => address.to_string(),
        Record::Service {
            host,
            port,
            priority,
            weight,
        } => format!("{host} {port} {priority} {weight}"),
    }
}
