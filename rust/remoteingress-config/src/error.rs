//! The one error that leaves this process: a code to branch on and a message to read, shown as `E_CODE: message`.

use std::fmt;

use remoteingress_proto::token::TokenError;

/// What went wrong and what to do about it. The message never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct CodedError {
    pub code: ErrorCode,
    pub message: String,
}

impl CodedError {
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
    ($($name:ident $code:literal $reason:literal;)*) => {
        /// The codes of docs/ipc.md that this process gives; the wrapper adds its own.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum ErrorCode { $($name,)* }

        impl ErrorCode {
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
    BadRequest "E_BAD_REQUEST" "badRequest";
    DuplicateId "E_DUPLICATE_ID" "duplicateId";
    UnknownMethod "E_UNKNOWN_METHOD" "unknownMethod";
    NotRunning "E_NOT_RUNNING" "notRunning";
    AlreadyRunning "E_ALREADY_RUNNING" "alreadyRunning";
    InvalidConfig "E_INVALID_CONFIG" "invalidConfig";
    InvalidToken "E_INVALID_TOKEN" "invalidToken";
    UnknownEdge "E_UNKNOWN_EDGE" "unknownEdge";
    BindFailed "E_BIND_FAILED" "bindFailed";
    AddressInUse "E_ADDRESS_IN_USE" "addressInUse";
    PermissionDenied "E_PERMISSION_DENIED" "permissionDenied";
    PortNotAllowed "E_PORT_NOT_ALLOWED" "portNotAllowed";
    StateDir "E_STATE_DIR" "stateDir";
    Tls "E_TLS" "tls";
    HubUnreachable "E_HUB_UNREACHABLE" "hubUnreachable";
    HubPinMismatch "E_HUB_PIN_MISMATCH" "hubPinMismatch";
    AuthFailed "E_AUTH_FAILED" "authFailed";
    InstanceConflict "E_INSTANCE_CONFLICT" "instanceConflict";
    Protocol "E_PROTOCOL" "protocol";
    Overloaded "E_OVERLOADED" "overloaded";
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
    fn the_codes_are_those_of_the_contract() {
        let contract = include_str!("../../../docs/ipc.md");
        let section = contract.split("\n## Error codes\n").nth(1).unwrap();
        let list = section
            .split("\n\n")
            .find(|part| part.starts_with("`E_BAD_REQUEST`"))
            .unwrap();
        let ours = list.split("The wrapper adds").next().unwrap();
        let codes: Vec<&str> = ours.split('`').skip(1).step_by(2).collect();
        assert_eq!(
            codes,
            ErrorCode::ALL
                .iter()
                .map(|code| code.as_str())
                .collect::<Vec<_>>()
        );
    }

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
