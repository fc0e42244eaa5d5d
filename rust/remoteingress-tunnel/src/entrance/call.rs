//! An edge that this end has dialled and called: it answers with its Hello, and comes in like one that has dialled (D4).

use super::acceptor::{Acceptor, Admitted};
use super::line::{LineEnd, line};
use super::passage::{Failed, Passage, prove};
use crate::transport::connection::Connection;
use crate::transport::error::ConnectionError;
use remoteingress_config::error::ErrorCode;
use remoteingress_core::uplink::failure::Failure;
use remoteingress_proto::handshake::{
    AuthenticatedEdge, Candidates, HandshakeError, HubHandshake, HubProgress,
};
use remoteingress_proto::token::edge_id::EdgeId;

/// Sends `message`, a Call, and lets the edge that answers in. `candidates` are the proofs that `edge` may give; any other
/// edge is unknown here.
pub async fn call<A: Acceptor<Peer = AuthenticatedEdge>>(
    acceptor: &A,
    mut connection: Connection,
    ekm: &[u8; 32],
    message: &[u8],
    edge: &EdgeId,
    candidates: &Candidates,
    is_trial: bool,
) -> Result<(Admitted<A::Place>, LineEnd), Failure> {
    let ended = |error: ConnectionError| {
        let message = format!("the edge ended the handshake: {error}");
        Failure::new(ErrorCode::EdgeUnreachable, message)
    };
    let address = connection.peer_address();
    connection.send(message).await.map_err(ended)?;
    let handshake = HubHandshake::called(ekm, connection.transport());
    let lookup = |named: &EdgeId| {
        if named == edge {
            candidates.clone()
        } else {
            Candidates::unknown()
        }
    };
    let parse = |received: &[u8]| {
        Ok(match handshake.handle(received, lookup)? {
            HubProgress::NeedMore => None,
            HubProgress::Authenticated { edge, consumed } => Some((edge, consumed)),
        })
    };
    let proved = prove(&mut connection, parse).await;
    if let Err(Failed::Handshake(error @ HandshakeError::Refused(_))) = &proved {
        return Err(Failure::of_call(error));
    }
    let mut passage = Passage::called(acceptor, address);
    let entered = passage.settle(connection, proved).await.map_err(ended)?;
    let Some(mut admitted) = entered else {
        return Err(Failure::of_answer(
            passage.refusal().map(|refusal| refusal.reason),
        ));
    };
    let (tell, told) = line(is_trial);
    admitted.line = Some(tell);
    Ok((admitted, told))
}
