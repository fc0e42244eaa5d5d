//! The PROXY protocol: writing a header, as the hub does for each stream.

use crate::workload::Workload;
use remoteingress_proxy_protocol::{EDGE_ID, Protocol, Tlv, encode_v1, encode_v2};
use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};

/// Headers per run.
const HEADERS: u64 = 64;

pub(super) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "proxy_v1_encode",
        operations: HEADERS,
        new: || Box::new(|| repeat(v1)),
    },
    Workload {
        name: "proxy_v2_encode",
        operations: HEADERS,
        new: || Box::new(|| repeat(v2)),
    },
];

fn repeat(encode: fn(SocketAddr, SocketAddr, &mut Vec<u8>)) {
    let client = SocketAddr::from((Ipv4Addr::new(203, 0, 113, 57), 40_000));
    let listener = SocketAddr::from((Ipv4Addr::new(198, 51, 100, 2), 443));
    for _ in 0..HEADERS {
        let mut out = Vec::new();
        encode(black_box(client), black_box(listener), &mut out);
        black_box(&out);
    }
}

fn v1(client: SocketAddr, listener: SocketAddr, out: &mut Vec<u8>) {
    encode_v1(client, listener, out);
}

fn v2(client: SocketAddr, listener: SocketAddr, out: &mut Vec<u8>) {
    let tlvs = [Tlv::unique_id(&[7; 16]), Tlv::new(EDGE_ID, b"edge-1")];
    encode_v2(client, listener, Protocol::Stream, &tlvs, out).expect("short");
}
