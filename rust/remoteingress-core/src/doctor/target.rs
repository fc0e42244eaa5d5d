//! Conclusions about targets. What a target does with a PROXY header can only be guessed by its reaction.

use remoteingress_config::doctor::{Check, CheckName};

/// The way a target reacted to a connection that began with a PROXY header, and nothing after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// It waited for more, or spoke first and kept the connection.
    Kept,
    /// It ended the connection after these bytes, at most some dozens of them.
    Ended(Vec<u8>),
    /// It kept the connection, and answered nothing but these bytes.
    Answered(Vec<u8>),
}

/// A target was dialled.
pub fn reached(target: &str, edge: &str, result: Result<(), String>) -> Check {
    let name = CheckName::Target;
    match result {
        Ok(()) => Check::ok(name, format!("{target} takes connections (edge {edge})")),
        Err(problem) => Check::failure(
            name,
            format!("{target}: {problem} (edge {edge})"),
            "start the server there, or correct targetHost and targetPort; clients of this port are reset meanwhile",
        ),
    }
}

/// A target of a pool was dialled.
pub fn reached_of_pool(target: &str, edge: &str, result: Result<(), String>) -> Check {
    match result {
        Ok(()) => reached(target, edge, Ok(())),
        Err(problem) => Check::failure(
            CheckName::Target,
            format!("{target}: {problem} (edge {edge})"),
            "start the server there, or correct the target where the pool has it from; the pool's other targets get its clients meanwhile",
        ),
    }
}

/// A port names a pool that has no target.
pub fn empty_pool(pool: &str, edge: &str) -> Check {
    Check::failure(
        CheckName::Target,
        format!("pool {pool} has no target (edge {edge})"),
        "give the pool targets: under pools, in routing.db, or by DNS; clients of this port are reset meanwhile",
    )
}

/// A target got a PROXY header of this version, `v1` or `v2`.
pub fn proxy_header(target: &str, version: &str, reaction: &Reaction) -> Check {
    let name = CheckName::ProxyHeader;
    let advice = format!(
        "make sure that it expects PROXY {version} at this port; if it doesn't, set proxyProtocol to \"none\" or to the other version"
    );
    let doubtful = |how: &str| {
        let seen = format!("{target} {how}: it may not understand PROXY {version}");
        Check::warning(name, seen, advice.clone())
    };
    match reaction {
        Reaction::Ended(_) => doubtful("ended a connection right after its PROXY header"),
        Reaction::Answered(bytes) if is_http_error(bytes) => {
            doubtful("answered a PROXY header with an error of HTTP")
        }
        Reaction::Kept | Reaction::Answered(_) => {
            let seen = format!(
                "{target} keeps a connection that begins with PROXY {version}; one that only waits for more looks the same"
            );
            Check::ok(name, seen)
        }
    }
}

/// A server of HTTP takes the header for a request.
fn is_http_error(answer: &[u8]) -> bool {
    answer.starts_with(b"HTTP/1.") && answer.get(8..10) == Some(b" 4")
}

#[cfg(test)]
mod tests {
    use super::*;
    use remoteingress_config::doctor::CheckState;

    #[test]
    fn a_target_that_refuses_is_a_failure() {
        assert_eq!(reached("t:1", "e", Ok(())).state, CheckState::Ok);
        let check = reached("t:1", "e", Err("refused".to_owned()));
        assert_eq!(check.state, CheckState::Failure);
        assert!(check.seen.contains("t:1: refused (edge e)"), "{check:?}");
        let check = reached_of_pool("p/t at t:1", "e", Err("refused".to_owned()));
        assert_eq!(check.state, CheckState::Failure);
        assert!(
            check.seen.contains("p/t at t:1: refused (edge e)"),
            "{check:?}"
        );
        assert_eq!(reached_of_pool("t", "e", Ok(())).state, CheckState::Ok);
        assert_eq!(empty_pool("p", "e").state, CheckState::Failure);
    }

    #[test]
    fn a_reaction_to_a_header_is_never_more_than_a_warning() {
        let bytes = |text: &str| text.as_bytes().to_vec();
        for (reaction, state) in [
            (Reaction::Kept, CheckState::Ok),
            (Reaction::Answered(bytes("220 mail.test")), CheckState::Ok),
            (Reaction::Answered(bytes("HTTP/1.1 200 OK")), CheckState::Ok),
            (
                Reaction::Answered(bytes("HTTP/1.1 400 Bad")),
                CheckState::Warning,
            ),
            (Reaction::Answered(bytes("HTTP/1.")), CheckState::Ok),
            (Reaction::Ended(bytes("")), CheckState::Warning),
            (Reaction::Ended(bytes("SSH-2.0-x")), CheckState::Warning),
        ] {
            let check = proxy_header("t:1", "v1", &reaction);
            assert_eq!(check.state, state, "{reaction:?}");
        }
    }
}
