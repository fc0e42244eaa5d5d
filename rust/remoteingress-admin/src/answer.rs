//! Answers as HTTP has them: JSON, and errors with their code.

use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use remoteingress_config::error::{CodedError, ErrorCode};
use serde::de::DeserializeOwned;
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
        (self.status, axum::Json(json!({ "error": self.error }))).into_response()
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

/// What the path names: an edge's id, or the parts of a path about pools.
pub(crate) struct Named<T = String>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Named<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(named)) => Ok(Self(named)),
            Err(rejection) => {
                let message = format!(
                    "{}; write ids and names in the path as UTF-8, other characters than letters, digits and -._~ as %xx",
                    rejection.body_text()
                );
                Err(Failure::new(
                    StatusCode::BAD_REQUEST,
                    ErrorCode::BadRequest,
                    message,
                ))
            }
        }
    }
}

/// The whole body of a request.
pub(crate) struct Body(pub(crate) Bytes);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        match Bytes::from_request(request, state).await {
            Ok(body) => Ok(Self(body)),
            Err(rejection) => {
                let status = rejection.status();
                let message = if status == StatusCode::PAYLOAD_TOO_LARGE {
                    "the body has more than 1 MiB; send one edge or pool at a time, or write it into the configuration file"
                        .to_owned()
                } else {
                    format!("{}; send the whole body", rejection.body_text())
                };
                Err(Failure::new(status, ErrorCode::BadRequest, message))
            }
        }
    }
}

/// The JSON object in a body. A page of another origin can't send this content type unasked.
pub(crate) fn object(headers: &HeaderMap, body: &Bytes) -> Result<Value, Failure> {
    let bad =
        |message: String| Failure::new(StatusCode::BAD_REQUEST, ErrorCode::BadRequest, message);
    let content_type = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let essence = content_type
        .and_then(|value| value.split(';').next())
        .unwrap_or_default();
    if !essence.trim().eq_ignore_ascii_case("application/json") {
        return Err(bad(
            "the body must be JSON: send Content-Type: application/json".to_owned(),
        ));
    }
    match serde_json::from_slice(body) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err(bad("the body must be a JSON object".to_owned())),
        // The words of serde could quote a secret.
        Err(error) => Err(bad(format!(
            "the body is not JSON, see line {}, column {}",
            error.line(),
            error.column()
        ))),
    }
}

/// An answer, or why there is none.
pub(crate) type Answer = Result<axum::Json<Value>, Failure>;
