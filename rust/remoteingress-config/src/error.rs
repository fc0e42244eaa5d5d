//! The one error that leaves this process: a code to branch on and a message to read, shown as `E_CODE: message`.

use std::fmt;

use remoteingress_proto::token::TokenError;
use serde::{Deserialize, Serialize};

/// An error, and what to do about it. The message never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[error("{code}: {message}")]
pub struct CodedError {
    /// Code for programs to branch on.
    pub code: ErrorCode,
    /// Text for people to read.
    pub message: String,
}

impl CodedError {
    /// An error with this code and message.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// `path` is the field's path as the user wrote it, for instance `edges[0].listenPorts[1].targetPort`.
    pub fn invalid_config(path: impl fmt::Display, problem: impl fmt::Display) -> Self {
        Self::new(ErrorCode::InvalidConfig, format!("{path}: {problem}"))
    }
}

impl From<TokenError> for CodedError {
    fn from(error: TokenError) -> Self {
        Self::new(ErrorCode::InvalidToken, error.to_string())
    }
}

/// Writes the enum and both of its spellings from one table.
macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident $code:literal $reason:literal;)*) => {
        /// Code of an error that the binary reports: the answer to a call, or why a tunnel is down.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        pub enum ErrorCode { $($(#[$doc])* #[serde(rename = $code)] $name,)* }

        impl ErrorCode {
            /// Every code, in the order of docs/errors.md.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// As in errors: `E_AUTH_FAILED`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// As on the wire and in `rejected`: `authFailed`.
            pub const fn reason(self) -> &'static str {
                match self { $(Self::$name => $reason,)* }
            }
        }
    };
}

codes! {
    /// A field of the configuration or of a request is unknown, missing, of the wrong type or out of range, or a
    /// configuration file can't be read or isn't JSON.
    ///
    /// Tried: Nothing was changed: a start fails, and a running hub keeps its old allowed edges.
    ///
    /// To do: Correct the field that the message names. `tls.certPem` and `tls.keyPem` are the PEM text itself,
    /// `tls.certFile` and `tls.keyFile` names of files.
    InvalidConfig "E_INVALID_CONFIG" "invalidConfig";
    /// The connection token can't be decoded, or one of its fields makes no sense.
    ///
    /// Tried: Nothing: the edge didn't start.
    ///
    /// To do: Copy the token whole, or make a new one.
    InvalidToken "E_INVALID_TOKEN" "invalidToken";
    /// A token was asked for, and the hub has no allowed edge with that id.
    ///
    /// Tried: The hub's current list of allowed edges was searched.
    ///
    /// To do: Add the edge with `updateAllowedEdges`, or to `edges` in the file, first.
    UnknownEdge "E_UNKNOWN_EDGE" "unknownEdge";
    /// Another socket has the port.
    ///
    /// Tried: A hub's start fails; with `tunnelPort` 0 only after several ports that the system chose. An edge tries
    /// the port again after 1, 2, 4 … 30 s.
    ///
    /// To do: Stop the program that listens there, or choose another port or `bindAddress`.
    AddressInUse "E_ADDRESS_IN_USE" "addressInUse";
    /// The system doesn't let this process open the port.
    ///
    /// Tried: As for `E_ADDRESS_IN_USE`.
    ///
    /// To do: Give the process `CAP_NET_BIND_SERVICE` or choose a port from 1024 on.
    PermissionDenied "E_PERMISSION_DENIED" "permissionDenied";
    /// The port can't be opened for another reason, as a link-local `bindAddress` or one of a family that the machine lacks.
    /// Also: the other end can't be dialled from `sourceAddress`, because the machine doesn't have it or it is of the other
    /// family.
    ///
    /// Tried: As for `E_ADDRESS_IN_USE`. Who dials tries again, with [pauses](operations.md#when-the-tunnel-drops).
    ///
    /// To do: Read the reason in the message, and correct `bindAddress` or `sourceAddress`.
    BindFailed "E_BIND_FAILED" "bindFailed";
    /// The edge's listeners have all the descriptors that they may have: the others of the process's limit are for
    /// clients (`limits.maxConnections`) and sessions.
    ///
    /// Tried: The edge opened single ports and short ranges first, and tries the others again after 1, 2, 4 … 30 s.
    ///
    /// To do: Raise the descriptor limit to the one that the message names (`LimitNOFILE`, `ulimit -n`), lower the edge's
    /// `limits.maxConnections`, or assign fewer ports.
    DescriptorLimit "E_DESCRIPTOR_LIMIT" "descriptorLimit";
    /// The hub assigned a port that the edge's `allowedPorts` doesn't contain.
    ///
    /// Tried: The edge left this port closed and opened the others.
    ///
    /// To do: Remove the port at the hub, or let the edge's operator add it to `allowedPorts`.
    PortNotAllowed "E_PORT_NOT_ALLOWED" "portNotAllowed";
    /// `stateDir` or the key in it can't be used: it can't be read or written, belongs to another user, can be written by
    /// others than root, the hub's user and the hub's groups, or holds no valid key.
    ///
    /// Tried: Nothing: the hub didn't start and left the directory as it was.
    ///
    /// To do: Give the directory to the hub's user, to root or to a group of the hub, let nobody else write it, and let
    /// only them read `hub-key.pem`. Never replace the key without need: tokens with its pin become worthless.
    StateDir "E_STATE_DIR" "stateDir";
    /// At an edge: the TLS handshake failed. The other end isn't a hub, its certificate doesn't fit `verifyHostname`,
    /// or something in between accepts connections and closes them, such as a forwarder whose hub is down. At a hub: no
    /// key or certificate could be made.
    ///
    /// Tried: The edge dials again, with [pauses](operations.md#when-the-tunnel-drops).
    ///
    /// To do: Check that `hubHost` and `hubPort` lead to the hub, and `verifyHostname`.
    Tls "E_TLS" "tls";
    /// The proxy of `hubProxy` or `dial.proxy` can't be reached: its name has no address, nobody answers there, or it says
    /// nothing for 7 s.
    ///
    /// Tried: The proxy's name was looked up anew and all its addresses were tried; the other end was not dialled. The end
    /// that dials tries again, with [pauses](operations.md#when-the-tunnel-drops).
    ///
    /// To do: Check the proxy's host and port, that it runs, and that this machine may use it.
    ProxyUnreachable "E_PROXY_UNREACHABLE" "proxyUnreachable";
    /// The proxy doesn't connect to the other end. The message has its answer: the status line of HTTP, or the reply of
    /// SOCKS5 in words.
    ///
    /// Tried: The proxy was asked for a connection to the other end's host and port. The end that dials asks again, with
    /// [pauses](operations.md#when-the-tunnel-drops).
    ///
    /// To do: Have the proxy's operator allow CONNECT to that host and port. Where its answer says that the other end
    /// can't be reached (502, 503, 504), see whether that one runs. Where it makes no sense, correct the scheme of the URL.
    ProxyRefused "E_PROXY_REFUSED" "proxyRefused";
    /// The proxy wants a user and a password, or doesn't accept those that are given.
    ///
    /// Tried: The login of the configuration, if it has one, was given as Basic (HTTP) or by RFC 1929 (SOCKS5). It is tried
    /// again after 15 to 30 s, so that no account is locked.
    ///
    /// To do: Correct user and password in the URL, or the password's file. A proxy that takes only NTLM or Kerberos needs a
    /// local helper in between.
    ProxyAuthFailed "E_PROXY_AUTH_FAILED" "proxyAuthFailed";
    /// At a hub that dials: the edge's name has no address, nobody answers there, the edge is about to stop, or
    /// something answers that isn't an edge.
    ///
    /// Tried: The name was looked up anew and all its addresses were tried. The hub dials again, with
    /// [pauses](operations.md#when-the-tunnel-drops).
    ///
    /// To do: Check the edge's `dial`, that the edge runs with `listenTunnel`, and that a firewall lets its port
    /// through.
    EdgeUnreachable "E_EDGE_UNREACHABLE" "edgeUnreachable";
    /// At a hub that dials: the edge's key isn't the one that `dial.pin` names.
    ///
    /// Tried: The hub dials again, with [pauses](operations.md#when-the-tunnel-drops).
    ///
    /// To do: Unless the edge's `stateDir` was lost or moved, somebody else answers in its place. Otherwise correct
    /// `dial.pin`.
    EdgePinMismatch "E_EDGE_PIN_MISMATCH" "edgePinMismatch";
    /// The hub's name has no address, nobody answers there, the hub is about to stop, or a connection that worked is
    /// gone.
    ///
    /// Tried: The name was looked up anew and all its addresses were tried. The edge dials again, with
    /// [pauses](operations.md#when-the-tunnel-drops).
    ///
    /// To do: Check name, port, firewall (for QUIC: UDP) and that the hub runs. After several wrong proofs the hub also
    /// blocks the edge's address for a minute or longer.
    HubUnreachable "E_HUB_UNREACHABLE" "hubUnreachable";
    /// The machine that answers doesn't have the key that the token's pin names.
    ///
    /// Tried: The edge closed the connection before it proved anything about its secret, and dials again.
    ///
    /// To do: If the hub has a new key, make a new token. If it has its old key, somebody between edge and hub answers
    /// in its place.
    HubPinMismatch "E_HUB_PIN_MISMATCH" "hubPinMismatch";
    /// The hub doesn't accept the edge's id and secret; or the other end couldn't prove that it knows the secret, and
    /// so isn't this edge's hub. At a hub that dials: the edge doesn't accept the hub's secret, or another edge answers.
    ///
    /// Tried: The edge closes its listeners and resets waiting clients. One worker tries again every 15 to 30 s, and
    /// the ports open again when the hub accepts it.
    ///
    /// To do: Check that the hub lists the edge, and make a new token. At a hub that dials, check `dial` too.
    AuthFailed "E_AUTH_FAILED" "authFailed";
    /// Another edge with this id is connected, or has taken over from this one. At a hub that dials also: another hub is
    /// connected to the edge.
    ///
    /// Tried: The hub asked the other edge for a sign of life, and got one within 3 s. The refused edge tries again;
    /// one that was replaced waits at least 15 s.
    ///
    /// To do: Stop one of them, give each its own id, or set `replaceInstance` on the one that should win. If you run
    /// only one edge and one hub, the token is in somebody else's hands: see [SECURITY.md](../SECURITY.md#when-a-token-has-leaked).
    InstanceConflict "E_INSTANCE_CONFLICT" "instanceConflict";
    /// Hub and edge speak versions or features that don't fit, or the other end sent bytes that the protocol doesn't
    /// allow.
    ///
    /// Tried: The connection was closed, and its session's streams were reset if it broke the protocol. The edge dials
    /// again.
    ///
    /// To do: Update the older end. If both have the same version, report it with the log.
    Protocol "E_PROTOCOL" "protocol";
    /// The hub is overloaded, has not been told its allowed edges yet, has blocked this edge's id at its address after
    /// wrong proofs (`maxAuthFailuresPerIp`), or allows this edge fewer sessions (`maxSessionsPerEdge`) than it has workers.
    /// At a hub that dials: the edge has blocked the hub's address after wrong proofs, or wants fewer sessions now.
    ///
    /// Tried: The edge tries again when the hub asked it to, for a session too many after 15 to 30 s.
    ///
    /// To do: Raise the limit at the hub, or lower the edge's `workers`. A hub that has just started needs
    /// `updateAllowedEdges`. The log of the end that was dialled names a block; stop or correct whatever has the wrong secret.
    Overloaded "E_OVERLOADED" "overloaded";
    /// The call needs a running hub or edge, and none runs: it was never started, is being stopped, or the start that
    /// the call waited for has failed. Over the management interface also: a hub's method was called on an edge.
    ///
    /// Tried: Nothing.
    ///
    /// To do: Call `start` first, or again after `stop`.
    NotRunning "E_NOT_RUNNING" "notRunning";
    /// `start` was called twice.
    ///
    /// Tried: Nothing: the running hub or edge isn't touched.
    ///
    /// To do: Call `stop` first, or use a second object: each hub and each edge is a process of its own.
    AlreadyRunning "E_ALREADY_RUNNING" "alreadyRunning";
    /// A line on stdin is no request, or a set of allowed edges is too large. From the TypeScript package: a
    /// configuration without its `edges`, one edge, or a list of ids takes more than 1 MiB as JSON.
    ///
    /// Tried: Nothing was carried out.
    ///
    /// To do: Driving the binary yourself, see [ipc.md](ipc.md). In TypeScript, write ports as ranges.
    BadRequest "E_BAD_REQUEST" "badRequest";
    /// A part or a commit names a set of allowed edges that isn't open: it was committed, another one was begun after
    /// it, one of its parts was refused, or it waited for its next part for more than 30 s.
    ///
    /// Tried: Nothing was carried out: the hub keeps its allowed edges.
    ///
    /// To do: Begin the set again. The TypeScript package does that by calling `updateAllowedEdges` again.
    EdgeSetClosed "E_EDGE_SET_CLOSED" "edgeSetClosed";
    /// A request has the id of an earlier one.
    ///
    /// Tried: Nothing was carried out.
    ///
    /// To do: Only for programs that drive the binary themselves: give each request a fresh id.
    DuplicateId "E_DUPLICATE_ID" "duplicateId";
    /// A request names a method that doesn't exist.
    ///
    /// Tried: Nothing was carried out.
    ///
    /// To do: Only for programs that drive the binary themselves: see the [methods](ipc.md#methods).
    UnknownMethod "E_UNKNOWN_METHOD" "unknownMethod";
    /// The admin server wants its token, and the request had none or another one.
    ///
    /// Tried: Nothing was read or changed.
    ///
    /// To do: Send `Authorization: Bearer TOKEN` with `admin.token`; reads also take it as the password of HTTP Basic.
    Unauthorized "E_UNAUTHORIZED" "unauthorized";
    /// The admin server doesn't answer such a request: it was called by a name that isn't its own, or the request
    /// changes something and no token is configured.
    ///
    /// Tried: Nothing was read or changed.
    ///
    /// To do: Add the name to `admin.allowedHosts`, or set `admin.token` or `admin.tokenFile`.
    Forbidden "E_FORBIDDEN" "forbidden";
    /// There is no pool, target or registration of this name, or nothing at this path of the admin server.
    ///
    /// Tried: Nothing.
    ///
    /// To do: Correct the name, or the path, see [admin.md](admin.md). A target that has to register again gets this code for
    /// its heartbeat.
    NotFound "E_NOT_FOUND" "notFound";
    /// Something failed that shouldn't: a thread couldn't start, or a library broke its contract.
    ///
    /// Tried: The message says how far it came.
    ///
    /// To do: Report it, with the log.
    Internal "E_INTERNAL" "internal";
}

impl ErrorCode {
    /// Reads either spelling, for instance the reason of a peer's refusal.
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|code| code.as_str() == text || code.reason() == text)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_agree_and_are_read_back() {
        for code in ErrorCode::ALL.iter().copied() {
            let mut upper = String::from("E_");
            for letter in code.reason().chars() {
                if letter.is_ascii_uppercase() {
                    upper.push('_');
                }
                upper.push(letter.to_ascii_uppercase());
            }
            assert_eq!(upper, code.as_str());
            assert_eq!(ErrorCode::from_text(code.as_str()), Some(code));
            assert_eq!(ErrorCode::from_text(code.reason()), Some(code));
        }
        assert_eq!(ErrorCode::from_text("E_BANANA"), None);
    }

    #[test]
    fn is_shown_as_code_and_message() {
        let error = CodedError::invalid_config("edges[0].id", "must not be empty");
        assert_eq!(
            error.to_string(),
            "E_INVALID_CONFIG: edges[0].id: must not be empty"
        );
        let error = CodedError::from(TokenError::Empty);
        assert_eq!(error.to_string(), "E_INVALID_TOKEN: the token is empty");
    }
}
