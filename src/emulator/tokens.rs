//! The token endpoint and the consent page, over HTTP.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use axum::Extension;
use axum::Form;
use axum::extract::{Query, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use base64::Engine as _;
use bytes::Bytes;
use serde_json::{Value, json};
use url::{Host, Url};

use super::dialect::TokenNames;
use super::hub::Hub;
use super::line::Line;
use super::oauth::{Issued, Refusal, TokenRequest, split_scopes};
use super::server;
use super::settings::{Operation, all_scopes};

/// `POST /api/oauth2/token`: parameters in the query string, in a form, or in both.
pub(super) async fn token(
    State(hub): State<Arc<Hub>>,
    Extension(line): Extension<Line>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let fault = match server::meet(&hub, &line, Operation::Token).await {
        Ok(fault) => fault,
        Err(answer) => return answer,
    };
    let request = read_request(query.as_deref().unwrap_or_default(), &headers, &body);
    let (exchanged, names) = {
        let settings = hub.settings().clone();
        (hub.world().oauth.exchange(&request, &settings), settings.dialect.token_names)
    };
    let answer = match exchanged {
        Ok(issued) => granted(&issued, names),
        Err(refusal) => refused(refusal),
    };
    match fault {
        Some(fault) => fault.play_after(&line, answer).await,
        None => answer,
    }
}

fn read_request(query: &str, headers: &HeaderMap, body: &[u8]) -> TokenRequest {
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
    if let Some((id, secret)) = basic(headers) {
        request.client_id = Some(id);
        request.client_secret = Some(secret);
    }
    request
}

fn basic(headers: &HeaderMap) -> Option<(String, String)> {
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

fn granted(issued: &Issued, names: TokenNames) -> Response {
    let scope = issued.scopes.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
    let seconds = issued.expires_in.as_secs();
    let mut reply = match names {
        TokenNames::Camel => {
            json!({"accessToken": issued.access_token, "tokenType": "Bearer", "expiresIn": seconds, "scope": scope})
        }
        TokenNames::Snake => {
            json!({"access_token": issued.access_token, "token_type": "Bearer", "expires_in": seconds, "scope": scope})
        }
    };
    let name = match names {
        TokenNames::Camel => "refreshToken",
        TokenNames::Snake => "refresh_token",
    };
    if let (Some(token), Value::Object(reply)) = (&issued.refresh_token, &mut reply) {
        reply.insert(name.to_owned(), token.as_str().into());
    }
    ([(header::CACHE_CONTROL, "no-store")], axum::Json(reply)).into_response()
}

fn refused(refusal: Refusal) -> Response {
    let (status, error, why) = match refusal {
        Refusal::InvalidRequest(why) => (StatusCode::BAD_REQUEST, "invalid_request", why),
        Refusal::InvalidClient(why) => (StatusCode::UNAUTHORIZED, "invalid_client", why),
        Refusal::InvalidGrant(why) => (StatusCode::BAD_REQUEST, "invalid_grant", why),
        Refusal::InvalidScope(why) => (StatusCode::BAD_REQUEST, "invalid_scope", why),
        Refusal::UnsupportedGrantType => (
            StatusCode::BAD_REQUEST,
            "unsupported_grant_type",
            "the grants are client_credentials, authorization_code, refresh_token",
        ),
    };
    let mut answer =
        (status, axum::Json(json!({"error": error, "error_description": why}))).into_response();
    answer
        .headers_mut()
        .insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    if status == StatusCode::UNAUTHORIZED {
        let scheme = header::HeaderValue::from_static("Basic realm=\"payman emulator\"");
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
    }
    answer
}

/// What a consent request asks for, checked.
struct Consent {
    client_id: String,
    redirect: Url,
    scopes: BTreeSet<String>,
    state: Option<String>,
}

impl Consent {
    fn read(parameters: &HashMap<String, String>, hub: &Hub) -> Result<Self, &'static str> {
        let given = |name: &str| parameters.get(name).filter(|value| !value.trim().is_empty());
        let client_id = given("client_id").ok_or("client_id is missing")?;
        if hub.settings().credentials.as_ref().is_some_and(|(known, _)| known != client_id) {
            return Err("this client_id is unknown");
        }
        let redirect = given("redirect_uri").ok_or("redirect_uri is missing")?;
        let redirect = Url::parse(redirect).map_err(|_| "redirect_uri is no URL")?;
        if !is_loopback(&redirect) {
            return Err("the emulator sends people only to http addresses of this machine: \
                        redirect_uri has to be http://127.0.0.1:PORT/… or http://localhost:PORT/…");
        }
        let scopes = given("scopes").or_else(|| given("scope")).ok_or("scopes is missing")?;
        let scopes = split_scopes(scopes);
        if !scopes.is_subset(&all_scopes()) {
            return Err("scopes holds a scope that the platform does not know");
        }
        let state = parameters.get("state").cloned();
        Ok(Self { client_id: client_id.clone(), redirect, scopes, state })
    }

    /// Where the user goes next.
    fn answered(&self, name: &str, value: &str) -> Response {
        let mut url = self.redirect.clone();
        url.query_pairs_mut().append_pair(name, value);
        if let Some(state) = &self.state {
            url.query_pairs_mut().append_pair("state", state);
        }
        Redirect::to(url.as_str()).into_response()
    }
}

fn is_loopback(url: &Url) -> bool {
    let here = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
        None => false,
    };
    here && url.scheme() == "http"
        && url.username().is_empty()
        && url.password().is_none()
        && url.fragment().is_none()
}

/// `GET /oauth/connect`: a page that asks.
pub(super) async fn ask_consent(
    State(hub): State<Arc<Hub>>,
    Query(parameters): Query<HashMap<String, String>>,
) -> Response {
    match Consent::read(&parameters, &hub) {
        Ok(consent) => Html(page(&consent)).into_response(),
        Err(why) => (StatusCode::BAD_REQUEST, why).into_response(),
    }
}

/// `POST /oauth/connect`: the answer, with `decision=allow` or `decision=deny`.
pub(super) async fn take_consent(
    State(hub): State<Arc<Hub>>,
    Query(query): Query<HashMap<String, String>>,
    Form(form): Form<HashMap<String, String>>,
) -> Response {
    let mut parameters = query;
    parameters.extend(form);
    let consent = match Consent::read(&parameters, &hub) {
        Ok(consent) => consent,
        Err(why) => return (StatusCode::BAD_REQUEST, why).into_response(),
    };
    match parameters.get("decision").map(String::as_str) {
        Some("allow") => {
            let lifetime = hub.settings().code_lifetime;
            let owner = Some(consent.client_id.clone());
            let code = hub.world().oauth.issue_code(owner, consent.scopes.clone(), lifetime);
            consent.answered("code", &code)
        }
        Some("deny") => consent.answered("error", "access_denied"),
        _ => (StatusCode::BAD_REQUEST, "decision is allow or deny").into_response(),
    }
}

fn page(consent: &Consent) -> String {
    let scopes: String = consent
        .scopes
        .iter()
        .map(|scope| format!("<li><code>{}</code></li>\n", escape(scope)))
        .collect();
    let joined = consent.scopes.iter().map(String::as_str).collect::<Vec<_>>().join(",");
    let mut fields = vec![
        ("client_id", consent.client_id.as_str()),
        ("redirect_uri", consent.redirect.as_str()),
        ("scopes", joined.as_str()),
    ];
    fields.extend(consent.state.as_deref().map(|state| ("state", state)));
    let fields: String = fields
        .iter()
        .map(|(name, value)| {
            format!("<input type=\"hidden\" name=\"{name}\" value=\"{}\">\n", escape(value))
        })
        .collect();
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>Connect to Payman (emulator)</title></head>\n\
         <body>\n<h1>Connect to Payman</h1>\n<p>This is the emulator: no real money moves.</p>\n\
         <p><strong>{client}</strong> asks for:</p>\n<ul>\n{scopes}</ul>\n\
         <form method=\"post\" action=\"/oauth/connect\">\n{fields}\
         <button name=\"decision\" value=\"allow\">Allow</button>\n\
         <button name=\"decision\" value=\"deny\">Deny</button>\n</form>\n</body>\n</html>\n",
        client = escape(&consent.client_id),
    )
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}
