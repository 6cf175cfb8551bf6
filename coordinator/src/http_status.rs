//! Statuses of gRPC as HTTP responses with the same message and reason.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use nadgrid_proto::status::DOMAIN;
use serde::Serialize;
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// The body of an error's response.
#[derive(Serialize)]
struct ErrorBody<'a> {
    error: &'a str,
    reason: &'a str,
}

/// The response of a status, with its message and reason as JSON.
pub(crate) fn http_response(status: &Status) -> Response {
    let code = http_code(status.code());
    let info = status.get_details_error_info().filter(|info| info.domain == DOMAIN);
    let reason = info.map_or_else(|| format!("{:?}", status.code()).to_uppercase(), |info| info.reason);
    let body = axum::Json(ErrorBody { error: status.message(), reason: &reason });
    let mut response = (code, [(header::CACHE_CONTROL, "no-store")], body).into_response();
    if code == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

fn http_code(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::InvalidArgument | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::FailedPrecondition | Code::Aborted => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The error of a handler that answers in HTTP.
pub(crate) struct HttpError(Status);

impl<T: Into<Status>> From<T> for HttpError {
    fn from(status: T) -> Self {
        Self(status.into())
    }
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        http_response(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nadgrid_proto::status::Reason;

    #[test]
    fn statuses_keep_their_class() {
        for (reason, code) in [
            (Reason::TokenMissing, 401),
            (Reason::NotYours, 403),
            (Reason::SweepUnknown, 404),
            (Reason::RequestInvalid, 400),
            (Reason::Full, 429),
            (Reason::ShuttingDown, 503),
        ] {
            let response = http_response(&reason.status("words"));
            assert_eq!(response.status().as_u16(), code, "{reason:?}");
        }
    }
}
