//! Gathers the datagrams that one turn sends: those of one size to one peer leave in one system call, and the kernel cuts them
//! apart again (GSO).

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};

use quinn_udp::Transmit;

/// Peers whose datagrams wait at the same time. With one more, the run that waits longest is sent.
const MAX_RUNS: usize = 16;
/// Bytes of a run, chosen by intuition: 27 datagrams of 1,200 bytes, about as many as one receive brings.
const MAX_BYTES: usize = 32 * 1_024;
/// A larger datagram goes alone: the kernel refuses a run whose datagrams are larger than the interface takes (over IPv6, than
/// it knows the path to take), and a socket that was refused once sends one by one from then on. Ethernet's 1,500 bytes hold
/// this and the headers of IPv6 and UDP.
const MAX_SEGMENT: usize = 1_452;

/// The peer that datagrams go to, with the socket they leave by and the counters they appear in.
pub trait Destination {
    /// The most datagrams of one `send`.
    fn max_segments(&self) -> usize;

    /// Sends `contents` now or not at all: each `segment_size` bytes are a datagram, of which the last may be shorter. Without
    /// a size they are one datagram.
    ///
    /// # Errors
    /// The kernel's. `WouldBlock` loses what was to be sent; after any other error of a run its datagrams are sent one by one.
    fn send(&self, contents: &[u8], segment_size: Option<usize>) -> io::Result<()>;

    /// Counts datagrams that have been sent, or haven't for this error.
    fn count(&self, datagrams: u64, sent: io::Result<()>);
}

/// Runs of datagrams that wait for the end of the turn: at most 16 of 32 KiB each. Whoever pushes also flushes within the same
/// turn, so nothing waits here for more to come.
#[derive(Debug)]
pub struct Runs<D> {
    /// In the order of their first datagrams.
    waiting: Vec<Run<D>>,
    /// Buffers of earlier runs.
    spare: Vec<Vec<u8>>,
}

#[derive(Debug)]
struct Run<D> {
    to: D,
    bytes: Vec<u8>,
    /// Size of each datagram but the last, which may be smaller.
    segment: usize,
    datagrams: usize,
}

impl<D> Default for Runs<D> {
    fn default() -> Self {
        Self {
            waiting: Vec::new(),
            spare: Vec::new(),
        }
    }
}

impl<D: Destination> Runs<D> {
    /// Adds a datagram, given in pieces, to the run whose destination `is_same` recognises, or else to a new run to `destination`.
    /// Datagrams to one destination keep their order.
    pub fn push(
        &mut self,
        pieces: &[&[u8]],
        is_same: impl Fn(&D) -> bool,
        destination: impl FnOnce() -> D,
    ) {
        let length = pieces.iter().map(|piece| piece.len()).sum();
        let known = self.waiting.iter().position(|run| is_same(&run.to));
        if let Some(index) = known
            && let Some(run) = self.waiting.get_mut(index)
        {
            if run.takes(length) {
                run.push(pieces);
                return;
            }
            self.send(index);
        }
        if self.waiting.len() == MAX_RUNS {
            self.send(0);
        }
        let mut run = Run {
            to: destination(),
            bytes: (self.spare.pop()).unwrap_or_else(|| Vec::with_capacity(MAX_BYTES)),
            segment: length,
            datagrams: 0,
        };
        run.push(pieces);
        self.waiting.push(run);
    }

    /// Sends every run that waits.
    pub fn flush(&mut self) {
        while !self.waiting.is_empty() {
            self.send(0);
        }
    }

    fn send(&mut self, index: usize) {
        let mut run = self.waiting.remove(index);
        run.send();
        run.bytes.clear();
        // The room of one larger datagram isn't kept.
        if run.bytes.capacity() <= MAX_BYTES {
            self.spare.push(run.bytes);
        }
    }
}

impl<D: Destination> Run<D> {
    fn takes(&self, length: usize) -> bool {
        let is_even = self.bytes.len() == self.datagrams * self.segment;
        is_even
            && (1..=self.segment).contains(&length)
            && self.segment <= MAX_SEGMENT
            && self.bytes.len() + length <= MAX_BYTES
            && self.datagrams < self.to.max_segments()
    }

    fn push(&mut self, pieces: &[&[u8]]) {
        for piece in pieces {
            self.bytes.extend_from_slice(piece);
        }
        self.datagrams += 1;
    }

    fn send(&self) {
        if self.datagrams == 1 {
            self.to.count(1, self.to.send(&self.bytes, None));
            return;
        }
        match self.to.send(&self.bytes, Some(self.segment)) {
            // The interface can't cut, or cuts to less.
            Err(error) if error.kind() != ErrorKind::WouldBlock => {
                for datagram in self.bytes.chunks(self.segment) {
                    self.to.count(1, self.to.send(datagram, None));
                }
            }
            sent => self.to.count(self.datagrams as u64, sent),
        }
    }
}

/// Datagrams of `segment_size` bytes, or one datagram, with `contents` to `destination`. `src_ip` is the local address they come
/// from, for a socket that has several.
pub fn transmit(
    destination: SocketAddr,
    contents: &[u8],
    segment_size: Option<usize>,
    src_ip: Option<IpAddr>,
) -> Transmit<'_> {
    Transmit {
        destination,
        ecn: None,
        contents,
        segment_size,
        src_ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket::udp::{Fragments, UdpSocket};
    use std::cell::RefCell;
    use std::net::UdpSocket as StdSocket;
    use std::rc::Rc;

    struct Peer {
        socket: Rc<UdpSocket>,
        to: SocketAddr,
        /// System calls: whether each has carried a run, and counts.
        log: Rc<RefCell<Vec<(bool, u64)>>>,
        cannot_cut: bool,
    }

    impl Destination for Peer {
        fn max_segments(&self) -> usize {
            self.socket.max_segments()
        }

        fn send(&self, contents: &[u8], segment_size: Option<usize>) -> io::Result<()> {
            if self.cannot_cut && segment_size.is_some() {
                return Err(io::Error::from_raw_os_error(libc::EINVAL));
            }
            self.socket
                .send_now(&transmit(self.to, contents, segment_size, None))
        }

        fn count(&self, datagrams: u64, sent: io::Result<()>) {
            sent.unwrap();
            self.log.borrow_mut().push((datagrams > 1, datagrams));
        }
    }

    /// Pushes datagrams of these lengths to peers 0 and 1; gives what each has got and the log.
    fn run(datagrams: &[(usize, usize)], cannot_cut: bool) -> (Vec<Vec<usize>>, Vec<(bool, u64)>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let _context = runtime.enter();
        let sockets = [0; 2].map(|_| StdSocket::bind("127.0.0.1:0").unwrap());
        let sender = StdSocket::bind("127.0.0.1:0").unwrap();
        sender.set_nonblocking(true).unwrap();
        let sender = Rc::new(UdpSocket::new(sender, Fragments::Allowed).unwrap());
        let log = Rc::default();
        let mut runs = Runs::default();
        for (number, (peer, length)) in datagrams.iter().enumerate() {
            let payload = vec![number as u8; *length];
            let (head, rest) = payload.split_at(length / 3);
            let to = sockets[*peer].local_addr().unwrap();
            let make = || Peer {
                socket: Rc::clone(&sender),
                to,
                log: Rc::clone(&log),
                cannot_cut,
            };
            runs.push(&[head, rest], |known: &Peer| known.to == to, make);
        }
        runs.flush();
        let mut buffer = vec![0; 70_000];
        let got = sockets.iter().enumerate().map(|(peer, socket)| {
            let expected = datagrams.iter().enumerate();
            let expected = expected.filter(|(_, (to, _))| *to == peer);
            let lengths = expected.map(|(number, (_, sent))| {
                let (length, _) = socket.recv_from(&mut buffer).unwrap();
                assert!(buffer[..length].iter().all(|byte| *byte == number as u8));
                assert_eq!(length, *sent);
                length
            });
            lengths.collect()
        });
        let got = got.collect();
        let log = log.take();
        (got, log)
    }

    #[test]
    fn equal_datagrams_to_one_peer_leave_together() {
        let (_, log) = run(&[(0, 1_200), (1, 64), (0, 1_200), (1, 64), (0, 700)], false);
        assert_eq!(log, [(true, 3), (true, 2)]);
    }

    #[test]
    fn boundaries_and_order_are_kept_whatever_the_sizes() {
        let sizes = [0, 5, 5, 9, 0, 3, 1_452, 1_452, 1_453, 1_453, 65_507, 1, 1];
        let datagrams: Vec<_> = sizes.iter().map(|size| (0, *size)).collect();
        let (got, log) = run(&datagrams, false);
        assert_eq!(got[0], sizes);
        assert_eq!(log.iter().map(|(_, count)| count).sum::<u64>(), 13);
    }

    #[test]
    fn an_interface_that_cannot_cut_gets_them_one_by_one() {
        let (got, log) = run(&[(0, 100), (0, 100), (0, 50)], true);
        assert_eq!(got[0], [100, 100, 50]);
        assert_eq!(log, [(false, 1); 3]);
    }

    #[test]
    fn more_than_a_run_holds_goes_on_in_the_next() {
        let (got, log) = run(&[(0, 1_200); 60], false);
        assert_eq!(got[0].len(), 60);
        assert_eq!(log, [(true, 27), (true, 27), (true, 6)]);
    }
}
