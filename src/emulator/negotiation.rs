//! Media types: the `Content-Type` of JSON responses, and the `Accept` header of requests.

use axum::http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use super::named_enum::named_enum;

named_enum! {
    /// The `Content-Type` of a JSON response.
    JsonMediaType {
        /// `application/json`
        #[default]
        Json = "json",
        /// `application/vnd.payman.v1+json`, as the platform's REST API writes it.
        Vendor = "vendor",
        /// The header is left out.
        Absent = "absent",
    }
}

const JSON: &str = "application/json";
const VENDOR_JSON: HeaderValue = HeaderValue::from_static("application/vnd.payman.v1+json");

/// Gives a JSON response the media type of the dialect.
pub(super) fn relabel_json(mut response: Response, media_type: JsonMediaType) -> Response {
    if content_type(&response).is_some_and(|found| found == JSON) {
        match media_type {
            JsonMediaType::Json => {}
            JsonMediaType::Vendor => {
                response.headers_mut().insert(CONTENT_TYPE, VENDOR_JSON);
            }
            JsonMediaType::Absent => {
                response.headers_mut().remove(CONTENT_TYPE);
            }
        }
    }
    response
}

/// Replaces a response of a media type that the request does not accept with 406.
///
/// This happens after the operation, as in servers that write their response last: the 406 does not
/// mean that nothing was done.
pub(super) fn refuse_unacceptable(response: Response, request: &HeaderMap) -> Response {
    let has_body = response.headers().get(CONTENT_LENGTH).is_none_or(|length| length != "0");
    let Some(found) = content_type(&response).filter(|_| has_body) else {
        return response;
    };
    if accepts(request, found) { response } else { StatusCode::NOT_ACCEPTABLE.into_response() }
}

/// Returns the media type of a response without its parameters.
fn content_type(response: &Response) -> Option<&str> {
    let value = response.headers().get(CONTENT_TYPE)?.to_str().ok()?;
    Some(without_parameters(value))
}

fn without_parameters(value: &str) -> &str {
    value.split(';').next().unwrap_or_default().trim()
}

/// Returns whether the `Accept` headers admit a media type. Quality values are ignored.
fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    let mut ranges = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(without_parameters)
        .peekable();
    let kind = media_type.split('/').next().unwrap_or_default();
    // No header accepts everything.
    ranges.peek().is_none()
        || ranges.any(|range| {
            range == "*/*"
                || range.eq_ignore_ascii_case(media_type)
                || range.strip_suffix("/*").is_some_and(|prefix| prefix.eq_ignore_ascii_case(kind))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_headers_admit_media_types() {
        for (accept, media_type, expected) in [
            ("*/*", JSON, true),
            ("application/json", JSON, true),
            ("text/event-stream", JSON, false),
            ("text/event-stream, application/json;q=0.5", JSON, true),
            ("application/*;q=0.1", "application/vnd.payman.v1+json", true),
            ("text/*", "text/event-stream", true),
            ("application/json, text/plain, */*", "text/event-stream", true),
            ("application/json", "text/event-stream", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
            assert_eq!(accepts(&headers, media_type), expected, "{accept} for {media_type}");
        }
        assert!(accepts(&HeaderMap::new(), JSON));
    }
}
