//! Answers as HTTP has them: JSON, and errors with their code.

use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use remoteingress_config::error::{CodedError, ErrorCode};
use serde_json::{Value, json};

/// An error on its way out: `{"error": {"code": "E_…", "message": "…"}}`.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: StatusCode,
    pub(crate) error: CodedError,
}

impl Failure {
    pub(crate) fn new(status: StatusCode, code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            status,
            error: CodedError::new(code, message),
        }
    }
}

impl From<CodedError> for Failure {
    fn from(error: CodedError) -> Self {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "all others are this side's fault"
        )]
        let status = match error.code {
            ErrorCode::InvalidConfig | ErrorCode::InvalidToken | ErrorCode::BadRequest => {
                StatusCode::BAD_REQUEST
            }
            ErrorCode::UnknownEdge | ErrorCode::NotFound => StatusCode::NOT_FOUND,
            ErrorCode::NotRunning => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self { status, error }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let CodedError { code, message } = self.error;
        let body = json!({ "error": { "code": code, "message": message } });
        (self.status, axum::Json(body)).into_response()
    }
}

/// The query of a request, or why it can't be read: an unknown field, or a wrong type.
pub(crate) fn query<T>(read: Result<Query<T>, QueryRejection>) -> Result<T, Failure> {
    let Query(read) = read.map_err(|rejection| {
        let message = format!("{}; see docs/admin.md", rejection.body_text());
        Failure::new(StatusCode::BAD_REQUEST, ErrorCode::BadRequest, message)
    })?;
    Ok(read)
}

/// An answer, or why there is none.
pub(crate) type Answer = Result<axum::Json<Value>, Failure>;
