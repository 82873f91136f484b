//! The token endpoint, `POST /api/oauth2/token`.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use base64::Engine as _;
use bytes::Bytes;
use serde_json::{Value, json};

use super::backend::Backend;
use super::connection::ConnectionHandle;
use super::dialect::TokenNames;
use super::intercept::Interception;
use super::oauth::{IssuedTokens, OAuthError, TokenRequest};
use super::settings::Operation;

/// Handles a token request with its parameters in the query string, in a form, or in both.
pub(super) async fn token(
    State(backend): State<Arc<Backend>>,
    Extension(connection): Extension<ConnectionHandle>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let begun = Interception::begin(&backend, &connection, Operation::Token, &headers).await;
    let interception = match begun {
        Ok(interception) => interception,
        Err(response) => return response,
    };
    let request = parse_request(query.as_deref().unwrap_or_default(), &headers, &body);
    let (exchanged, names) = {
        let settings = backend.settings().clone();
        (backend.data().oauth.exchange(&request, &settings), settings.dialect.token_names)
    };
    let response = match exchanged {
        Ok(issued) => success_response(&issued, names),
        Err(error) => error_response(error),
    };
    interception.finish(&backend, &connection, &headers, response).await
}

fn parse_request(query: &str, headers: &HeaderMap, body: &[u8]) -> TokenRequest {
    let mut request = TokenRequest::default();
    let is_form = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"));
    let form = if is_form { body } else { &[] };
    for (name, value) in
        url::form_urlencoded::parse(query.as_bytes()).chain(url::form_urlencoded::parse(form))
    {
        let field = match name.as_ref() {
            "grant_type" => &mut request.grant_type,
            "code" => &mut request.code,
            "refresh_token" => &mut request.refresh_token,
            "scope" | "scopes" => &mut request.scope,
            "client_id" => &mut request.client_id,
            "client_secret" => &mut request.client_secret,
            _ => continue,
        };
        *field = Some(value.into_owned());
    }
    if let Some((id, secret)) = basic_credentials(headers) {
        request.client_id = Some(id);
        request.client_secret = Some(secret);
    }
    request
}

/// Parses the credentials of a Basic `Authorization` header.
fn basic_credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = base64::engine::general_purpose::STANDARD.decode(encoded.trim()).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (id, secret) = text.split_once(':')?;
    Some((id.to_owned(), secret.to_owned()))
}

fn success_response(issued: &IssuedTokens, names: TokenNames) -> Response {
    let scope = issued.scopes.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
    let seconds = issued.expires_in.as_secs();
    let [access_name, type_name, expiry_name, refresh_name] = match names {
        TokenNames::Camel => ["accessToken", "tokenType", "expiresIn", "refreshToken"],
        TokenNames::Snake => ["access_token", "token_type", "expires_in", "refresh_token"],
    };
    let mut reply = json!({
        access_name: issued.access_token,
        type_name: "Bearer",
        expiry_name: seconds,
        "scope": scope,
    });
    if let (Some(token), Value::Object(reply)) = (&issued.refresh_token, &mut reply) {
        reply.insert(refresh_name.to_owned(), token.as_str().into());
    }
    ([(header::CACHE_CONTROL, "no-store")], Json(reply)).into_response()
}

fn error_response(error: OAuthError) -> Response {
    let (status, name, description) = match error {
        OAuthError::InvalidRequest(description) => {
            (StatusCode::BAD_REQUEST, "invalid_request", description)
        }
        OAuthError::InvalidClient(description) => {
            (StatusCode::UNAUTHORIZED, "invalid_client", description)
        }
        OAuthError::InvalidGrant(description) => {
            (StatusCode::BAD_REQUEST, "invalid_grant", description)
        }
        OAuthError::InvalidScope(description) => {
            (StatusCode::BAD_REQUEST, "invalid_scope", description)
        }
        OAuthError::UnsupportedGrantType => (
            StatusCode::BAD_REQUEST,
            "unsupported_grant_type",
            "the grants are client_credentials, authorization_code, refresh_token",
        ),
    };
    let mut response =
        (status, Json(json!({"error": name, "error_description": description}))).into_response();
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    if status == StatusCode::UNAUTHORIZED {
        let scheme = header::HeaderValue::from_static("Basic realm=\"payman emulator\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
    }
    response
}
