//! The hub's worker that a packet reaches: by the first byte of its connection id, whatever address it comes from.
//!
//! Each worker has a socket of one `SO_REUSEPORT` group. Without more the kernel would choose by the sender's address, and
//! an edge whose address changes would reach a worker that doesn't know it. A classic BPF program reads the connection id
//! instead: a long header has it at byte 6, a short one at byte 1 (RFC 8999 section 5).

use quinn_proto::{ConnectionId, ConnectionIdGenerator};
use remoteingress_os::bind::{BindError, bind_socket, new_socket};
use remoteingress_os::socket_options::{ReuseportProgram, steer};
use socket2::{Protocol, Type};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Once;
use std::time::Duration;

/// Long enough that ids never repeat, short enough for a header of 1 + 8 + 4 bytes.
const ID_LEN: usize = 8;
/// One byte of the id says which worker.
pub const MAX_WORKERS: usize = 256;

/// Makes connection ids whose first byte, modulo the workers, is the worker. Any id of this length is accepted: those of an
/// earlier run of the hub get a stateless reset.
#[derive(Clone, Copy, Debug)]
pub struct WorkerIds {
    /// This worker's number, from 0.
    pub worker: usize,
    /// Number of workers, at most [`MAX_WORKERS`].
    pub workers: usize,
}

impl ConnectionIdGenerator for WorkerIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut bytes: [u8; ID_LEN] = remoteingress_os::random::bytes();
        if let Some(first) = bytes.first_mut() {
            *first = first_byte(*first, self.worker, self.workers);
        }
        ConnectionId::new(&bytes)
    }

    fn cid_len(&self) -> usize {
        ID_LEN
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// The byte nearest below `random` that means `worker`.
fn first_byte(random: u8, worker: usize, workers: usize) -> u8 {
    let rounds = (MAX_WORKERS - worker).div_ceil(workers);
    let round = usize::from(random) % rounds;
    u8::try_from(worker + round * workers).unwrap_or_default()
}

/// Binds one socket per worker to `address`, in the order of the workers, and steers packets between them. Where the kernel
/// doesn't let itself be told, all packets reach one socket: the first worker's.
pub fn bind_group(address: SocketAddr, workers: usize) -> Result<Vec<UdpSocket>, BindError> {
    bind_all(address, workers).map_err(|source| BindError { address, source })
}

/// Each address family, and each try at a port, would say the same.
static SAID: Once = Once::new();

fn bind_all(address: SocketAddr, workers: usize) -> io::Result<Vec<UdpSocket>> {
    // Without SO_REUSEPORT the kernel refuses while anyone else has the port.
    drop(bind_one(address, false)?);
    if workers > MAX_WORKERS {
        SAID.call_once(|| {
            tracing::warn!(
                workers,
                "more workers than one byte can tell apart: QUIC uses the first"
            );
        });
        return Ok(vec![bind_one(address, false)?]);
    }
    let mut group = Vec::with_capacity(workers);
    for _ in 0..workers {
        group.push(bind_one(address, workers > 1)?);
    }
    if let Some(socket) = group.first().filter(|_| workers > 1)
        && let Err(error) = steer(socket, &program(workers))
    {
        SAID.call_once(|| {
            tracing::warn!(%error, "the kernel takes no program that steers packets: QUIC uses one worker");
        });
        drop(group);
        return Ok(vec![bind_one(address, false)?]);
    }
    Ok(group)
}

fn bind_one(address: SocketAddr, reuse_port: bool) -> io::Result<UdpSocket> {
    let socket = new_socket(address, Type::DGRAM, Protocol::UDP)?;
    socket.set_reuse_port(reuse_port)?;
    bind_socket(&socket, address)?;
    Ok(socket.into())
}

/// `(header is long ? packet[6] : packet[1]) % workers`.
fn program(workers: usize) -> ReuseportProgram {
    const LOAD_BYTE: u16 = 0x30;
    const JUMP_IF_SET: u16 = 0x45;
    const JUMP: u16 = 0x05;
    const MODULO: u16 = 0x94;
    const RETURN_A: u16 = 0x16;
    let workers = u32::try_from(workers).unwrap_or(1);
    [
        (LOAD_BYTE, 0, 0, 0),
        (JUMP_IF_SET, 0, 2, 0x80),
        (LOAD_BYTE, 0, 0, 6),
        (JUMP, 0, 0, 1),
        (LOAD_BYTE, 0, 0, 1),
        (MODULO, 0, 0, workers),
        (RETURN_A, 0, 0, 0),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_name_their_worker() {
        for workers in [1, 2, 3, 16, 255, 256] {
            for worker in 0..workers {
                for random in 0..=u8::MAX {
                    let byte = first_byte(random, worker, workers);
                    assert_eq!(usize::from(byte) % workers, worker, "{random} {workers}");
                }
            }
        }
        let mut ids = WorkerIds {
            worker: 1,
            workers: 2,
        };
        assert_ne!(ids.generate_cid(), ids.generate_cid());
    }

    #[test]
    fn packets_reach_the_worker_that_their_id_names_from_any_address() {
        let group = bind_group("127.0.0.1:0".parse().unwrap(), 1).unwrap();
        let address = group[0].local_addr().unwrap();
        drop(group);
        let group = bind_group(address, 3).unwrap();
        for sender in 0..4 {
            let client = UdpSocket::bind("127.0.0.1:0").unwrap();
            for worker in 0..3_u8 {
                let id = worker + 3 * sender;
                let long = [0xc0, 0, 0, 0, 1, 8, id, 9, 9, 9, 9];
                let short = [0x40, id, 9, 9, 9, 9, 9, 9, 9];
                for packet in [&long[..], &short[..]] {
                    client.send_to(packet, address).unwrap();
                    let mut got = [0; 64];
                    group[usize::from(worker)].set_nonblocking(false).unwrap();
                    let socket = &group[usize::from(worker)];
                    socket
                        .set_read_timeout(Some(Duration::from_secs(5)))
                        .unwrap();
                    let len = socket.recv(&mut got).expect("it reaches this worker");
                    assert_eq!(&got[..len], packet);
                }
            }
        }
    }

    #[test]
    fn a_port_of_another_process_is_found() {
        let other = UdpSocket::bind("127.0.0.1:0").unwrap();
        let error = bind_group(other.local_addr().unwrap(), 2).unwrap_err();
        assert_eq!(
            error.code(),
            remoteingress_config::error::ErrorCode::AddressInUse
        );
    }
}
