//! Which name servers the system asks, and how it completes names: resolv.conf(5).

use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::Path;

/// Port of name servers; the file can't name another.
const PORT: u16 = 53;
/// More servers are ignored, as the C library does (MAXNS).
const MAX_SERVERS: usize = 3;
/// Most search domains that Kubernetes writes; more are ignored.
const MAX_SEARCH: usize = 32;
/// The C library's bound for `ndots`.
const MAX_DOTS: usize = 15;
/// Far more than the file has.
const MAX_FILE: u64 = 64 * 1024;

/// How names are looked up on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct System {
    /// In the order in which they are asked; at least one.
    pub(super) servers: Vec<SocketAddr>,
    /// Domains that complete a name, in the order in which they are tried.
    search: Vec<String>,
    /// A name with as many dots is tried as it is first.
    dots: usize,
}

impl System {
    /// What the file says now. One that can't be read says nothing; then, as the C library has it, this machine is asked.
    pub(super) fn read(path: &Path) -> Self {
        let mut bytes = Vec::new();
        let read = File::open(path).and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes));
        if let Err(error) = read {
            tracing::debug!(path = %path.display(), %error, "failed to read the resolver's file");
        }
        Self::parse(&String::from_utf8_lossy(&bytes))
    }

    fn parse(text: &str) -> Self {
        let mut system = Self {
            servers: Vec::new(),
            search: Vec::new(),
            dots: 1,
        };
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            // Lines that aren't known are comments, or options of other systems.
            match words.next() {
                Some("nameserver") => system.servers.extend(words.next().and_then(server)),
                // The last of these lines is the one that counts.
                Some("search" | "domain") => {
                    system.search = words.take(MAX_SEARCH).map(str::to_owned).collect();
                }
                Some("options") => {
                    let mut dots =
                        words.filter_map(|word| word.strip_prefix("ndots:")?.parse().ok());
                    system.dots = dots.next_back().unwrap_or(system.dots).min(MAX_DOTS);
                }
                _ => {}
            }
        }
        system.servers.truncate(MAX_SERVERS);
        if system.servers.is_empty() {
            system.servers.push((Ipv4Addr::LOCALHOST, PORT).into());
        }
        system
    }

    /// The names to try for `name`, each of them complete. One that ends in a dot is complete as it is.
    pub(super) fn candidates(&self, name: &str) -> Vec<String> {
        if name.ends_with('.') {
            return vec![name.to_owned()];
        }
        let completed = |domain: &String| format!("{name}.{}", domain.trim_start_matches('.'));
        let mut candidates: Vec<String> = self.search.iter().map(completed).collect();
        let dots = name.bytes().filter(|byte| *byte == b'.').count();
        let at = if dots >= self.dots {
            0
        } else {
            candidates.len()
        };
        candidates.insert(at, name.to_owned());
        candidates
    }
}

/// The address of a server: an IPv4 or IPv6 address, that of a link with the interface after a `%`.
fn server(word: &str) -> Option<SocketAddr> {
    if let Ok(address) = word.parse::<IpAddr>() {
        return Some(SocketAddr::new(address, PORT));
    }
    let (address, _) = word.split_once('%')?;
    address.parse::<Ipv6Addr>().ok()?;
    // An address needs no lookup; this knows the numbers of interfaces.
    (word, PORT).to_socket_addrs().ok()?.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_read_as_the_c_library_reads_it() {
        let system = System::parse(
            "# of the network\n; old style\nnameserver 10.0.0.1\n  nameserver\tfd00::1 # first\nlookup file bind\n\
             nameserver fe80::1%lo\nnameserver none\nnameserver 10.0.0.9\nnameserver 10.0.0.10\n\
             domain old.example\nsearch a.example b.example\noptions edns0 ndots:2 timeout:1\nnameserver\n",
        );
        let shown: Vec<String> = system.servers.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["10.0.0.1:53", "[fd00::1]:53", "[fe80::1%1]:53"]);
        assert_eq!(system.search, ["a.example", "b.example"]);
        assert_eq!(system.dots, 2);
    }

    #[test]
    fn without_a_server_this_machine_is_asked() {
        let local = ["127.0.0.1:53".parse().unwrap()];
        assert_eq!(
            System::parse("nameserver\nsearch x\noptions ndots:").servers,
            local
        );
        assert_eq!(
            System::read(Path::new("/proc/none/resolv.conf")).servers,
            local
        );
        assert_eq!(System::parse("options ndots:400").dots, 15);
    }

    #[test]
    fn names_are_completed_in_the_order_of_their_dots() {
        let system = System::parse("search one.example .two.example\noptions ndots:2");
        let tried = |name: &str| system.candidates(name).join(" ");
        assert_eq!(tried("web."), "web.");
        assert_eq!(tried("a.b.c."), "a.b.c.");
        assert_eq!(tried("web"), "web.one.example web.two.example web");
        assert_eq!(tried("a.b"), "a.b.one.example a.b.two.example a.b");
        assert_eq!(tried("a.b.c"), "a.b.c a.b.c.one.example a.b.c.two.example");
        assert_eq!(System::parse("").candidates("web"), ["web"]);
    }
}
