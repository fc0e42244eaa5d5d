//! A session's bytes on a connection: all in one order over TLS, frame by frame with their lanes over QUIC.

use crate::env::Env;
use bytes::{Bytes, BytesMut};
use remoteingress_proto::control::{ControlError, ControlMessage};
use remoteingress_proto::handshake::Transport;
use remoteingress_proto::lanes::LaneOutput;
use remoteingress_proto::mux::{Carrier, Session, SessionError};
use remoteingress_testkit::net::{Connection, Endpoint};
use std::time::{Duration, Instant};

/// Most bytes in one piece, as a TLS record has them.
const RECORD: usize = 16 * 1_024;
/// QUIC gives a connection up after this long without a packet.
pub(crate) const QUIC_IDLE: Duration = Duration::from_secs(30);

/// A unit that travels on a connection.
#[derive(Clone, Debug)]
pub(crate) enum Packet {
    /// Handshake, and frames over TLS.
    Bytes(Bytes),
    /// Frames over QUIC.
    Lane(LaneOutput),
}

pub(crate) fn carrier(transport: Transport) -> Carrier {
    match transport {
        Transport::TcpTls => Carrier::Ordered,
        Transport::Quic => Carrier::Lanes,
    }
}

/// Sends all that the session has to say now.
pub(crate) fn transmit(session: &mut Session, env: &mut Env, to: Connection, from: Endpoint) {
    let now = env.now();
    match session.carrier() {
        Carrier::Ordered => {
            let mut out = BytesMut::new();
            while let Some(frame) = session.poll_transmit(now) {
                out.extend_from_slice(&frame);
                if out.len() >= RECORD {
                    env.net.send(to, from, Packet::Bytes(out.split().freeze()));
                }
            }
            if !out.is_empty() {
                env.net.send(to, from, Packet::Bytes(out.freeze()));
            }
        }
        Carrier::Lanes => {
            while let Some(output) = session.poll_lane(now, true) {
                env.net.send(to, from, Packet::Lane(output));
            }
        }
    }
}

/// Gives the session what has come.
pub(crate) fn receive(
    session: &mut Session,
    now: Instant,
    packet: Packet,
) -> Result<(), SessionError> {
    match packet {
        Packet::Bytes(bytes) => session.handle_input(now, bytes),
        Packet::Lane(LaneOutput::Frame { lane, frame, .. }) => {
            session.handle_lane(now, lane, frame)
        }
        Packet::Lane(LaneOutput::Finish(lane)) => session.handle_lane_end(lane),
        Packet::Lane(LaneOutput::Datagram(datagram)) => {
            session.handle_datagram(now, datagram);
            Ok(())
        }
    }
}

/// A control message that has come as a whole.
pub(crate) fn legal(
    message: Result<Option<ControlMessage>, ControlError>,
) -> Option<ControlMessage> {
    message.expect("legal control messages")
}
