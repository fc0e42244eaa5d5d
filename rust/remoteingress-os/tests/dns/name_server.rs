//! A name server on loopback that says what a test tells it to, over UDP and TCP on one port.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use domain::base::iana::{Class, Rcode};
use domain::base::message_builder::AnswerBuilder;
use domain::base::{Message, MessageBuilder, Name, Rtype, ToName};
use domain::rdata::{A, Aaaa, Cname, Ns, Soa, Srv};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

pub(crate) type DnsName = Name<Vec<u8>>;

/// A question as it has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) name: String,
    pub(crate) rtype: Rtype,
    pub(crate) over_tcp: bool,
    /// It says how large a datagram may be.
    pub(crate) has_size: bool,
    /// How many questions with this name and type have come before, over UDP and TCP each for itself.
    pub(crate) earlier: usize,
}

/// What the server does with a question.
pub(crate) enum Reply {
    /// Nothing.
    Silence,
    /// It sends these messages, one after the other.
    Messages(Vec<Vec<u8>>),
}

pub(crate) type Script = dyn Fn(&Asked, &Message<Vec<u8>>) -> Reply + Send + Sync;

pub(crate) struct NameServer {
    pub(crate) address: SocketAddr,
    log: Arc<Mutex<Vec<Asked>>>,
    /// Ends with the server.
    _tasks: JoinSet<()>,
}

impl NameServer {
    pub(crate) async fn start(
        script: impl Fn(&Asked, &Message<Vec<u8>>) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let (udp, tcp) = loop {
            let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            // Somebody else may have the number for UDP.
            if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        let script: Arc<Script> = Arc::new(script);
        let log = Arc::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_udp(udp, Arc::clone(&script), Arc::clone(&log)));
        tasks.spawn(serve_tcp(tcp, script, Arc::clone(&log)));
        Self {
            address,
            log,
            _tasks: tasks,
        }
    }

    /// All questions up to now.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.log.lock().unwrap().clone()
    }
}

async fn serve_udp(socket: UdpSocket, script: Arc<Script>, log: Arc<Mutex<Vec<Asked>>>) {
    let mut buffer = [0; 2048];
    loop {
        let (length, client) = socket.recv_from(&mut buffer).await.unwrap();
        if let Reply::Messages(messages) = reply(&buffer[..length], false, &*script, &log) {
            for message in messages {
                socket.send_to(&message, client).await.unwrap();
            }
        }
    }
}

async fn serve_tcp(listener: TcpListener, script: Arc<Script>, log: Arc<Mutex<Vec<Asked>>>) {
    // Streams that get no answer stay open.
    let mut open: Vec<TcpStream> = Vec::new();
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let length = stream.read_u16().await.unwrap();
        let mut query = vec![0; length.into()];
        stream.read_exact(&mut query).await.unwrap();
        if let Reply::Messages(messages) = reply(&query, true, &*script, &log) {
            for message in messages {
                let length = u16::try_from(message.len()).unwrap();
                stream.write_u16(length).await.unwrap();
                stream.write_all(&message).await.unwrap();
            }
        }
        open.push(stream);
    }
}

fn reply(query: &[u8], over_tcp: bool, script: &Script, log: &Mutex<Vec<Asked>>) -> Reply {
    let query = Message::from_octets(query.to_vec()).unwrap();
    let question = query.sole_question().unwrap();
    assert_eq!(question.qclass(), Class::IN);
    assert!(query.header().rd() && !query.header().qr());
    let mut log = log.lock().unwrap();
    let name = question.qname().to_string();
    let is_same = |asked: &&Asked| {
        (&asked.name, asked.rtype, asked.over_tcp) == (&name, question.qtype(), over_tcp)
    };
    let asked = Asked {
        earlier: log.iter().filter(is_same).count(),
        name,
        rtype: question.qtype(),
        over_tcp,
        has_size: query
            .opt()
            .is_some_and(|opt| opt.udp_payload_size() == 1232),
    };
    log.push(asked.clone());
    drop(log);
    script(&asked, &query)
}

/// Builds answers to one query.
pub(crate) struct Answer {
    pub(crate) builder: AnswerBuilder<Vec<u8>>,
}

impl Answer {
    pub(crate) fn to(query: &Message<Vec<u8>>) -> Self {
        Self::with_code(query, Rcode::NOERROR)
    }

    pub(crate) fn with_code(query: &Message<Vec<u8>>, code: Rcode) -> Self {
        let builder = MessageBuilder::new_vec();
        let builder = builder.start_answer(query, code).unwrap();
        Self { builder }
    }

    pub(crate) fn a(mut self, owner: &str, ttl: u32, address: &str) -> Self {
        let a = A::new(address.parse().unwrap());
        self.builder.push((name(owner), ttl, a)).unwrap();
        self
    }

    pub(crate) fn aaaa(mut self, owner: &str, ttl: u32, address: &str) -> Self {
        let aaaa = Aaaa::new(address.parse().unwrap());
        self.builder.push((name(owner), ttl, aaaa)).unwrap();
        self
    }

    pub(crate) fn cname(mut self, owner: &str, ttl: u32, target: &str) -> Self {
        let cname = Cname::new(name(target));
        self.builder.push((name(owner), ttl, cname)).unwrap();
        self
    }

    pub(crate) fn srv(mut self, owner: &str, ttl: u32, fields: [u16; 3], host: &str) -> Self {
        let [priority, weight, port] = fields;
        let srv = Srv::new(priority, weight, port, name(host));
        self.builder.push((name(owner), ttl, srv)).unwrap();
        self
    }

    pub(crate) fn truncated(mut self) -> Self {
        self.builder.header_mut().set_tc(true);
        self
    }

    /// The messages of this answer alone.
    pub(crate) fn send(self) -> Reply {
        Reply::Messages(vec![self.finish()])
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.builder.finish()
    }

    /// With the servers of a zone beside it, as if those had to be asked.
    pub(crate) fn referring(self) -> Reply {
        let mut authority = self.builder.authority();
        let ns = Ns::new(name("ns.test"));
        authority.push((name("test"), 60, ns)).unwrap();
        Reply::Messages(vec![authority.finish()])
    }

    /// With the start of a zone beside it, as an answer without records has it.
    pub(crate) fn with_start(self) -> Reply {
        let mut authority = self.builder.authority();
        let ns = Ns::new(name("ns.test"));
        authority.push((name("test"), 60, ns)).unwrap();
        let time = domain::base::Ttl::from_secs(60);
        let (server, mail) = (name("ns.test"), name("mail.test"));
        let soa = Soa::new(server, mail, 1.into(), time, time, time, time);
        authority.push((name("test"), 60, soa)).unwrap();
        Reply::Messages(vec![authority.finish()])
    }
}

pub(crate) fn name(text: &str) -> DnsName {
    let name: DnsName = text.parse().unwrap();
    name.to_name()
}
