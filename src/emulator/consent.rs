//! The consent page, `/oauth/connect`.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use axum::Form;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Redirect, Response};
use url::{Host, Url};

use super::backend::Backend;
use super::oauth::split_scopes;
use super::settings::all_scopes;

/// A validated consent request.
struct ConsentRequest {
    client_id: String,
    redirect: Url,
    scopes: BTreeSet<String>,
    state: Option<String>,
}

impl ConsentRequest {
    fn parse(
        parameters: &HashMap<String, String>,
        backend: &Backend,
    ) -> Result<Self, &'static str> {
        let non_blank = |name: &str| parameters.get(name).filter(|value| !value.trim().is_empty());
        let client_id = non_blank("client_id").ok_or("client_id is missing")?;
        if backend.settings().credentials.as_ref().is_some_and(|(known, _)| known != client_id) {
            return Err("this client_id is unknown");
        }
        let redirect = non_blank("redirect_uri").ok_or("redirect_uri is missing")?;
        let redirect = Url::parse(redirect).map_err(|_| "redirect_uri is no URL")?;
        if !is_loopback(&redirect) {
            return Err("the emulator redirects only to http addresses of this machine: \
                        redirect_uri has to be http://127.0.0.1:PORT/… or http://localhost:PORT/…");
        }
        let scopes =
            non_blank("scopes").or_else(|| non_blank("scope")).ok_or("scopes is missing")?;
        let scopes = split_scopes(scopes);
        if !scopes.is_subset(&all_scopes()) {
            return Err("scopes holds a scope that the platform does not know");
        }
        let state = parameters.get("state").cloned();
        Ok(Self { client_id: client_id.clone(), redirect, scopes, state })
    }

    /// Redirects the user back to the app with a parameter.
    fn redirect_with(&self, name: &str, value: &str) -> Response {
        let mut url = self.redirect.clone();
        url.query_pairs_mut().append_pair(name, value);
        if let Some(state) = &self.state {
            url.query_pairs_mut().append_pair("state", state);
        }
        Redirect::to(url.as_str()).into_response()
    }
}

fn is_loopback(url: &Url) -> bool {
    let is_local = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
        None => false,
    };
    is_local
        && url.scheme() == "http"
        && url.username().is_empty()
        && url.password().is_none()
        && url.fragment().is_none()
}

/// Handles `GET /oauth/connect`: shows the consent page.
pub(super) async fn show_page(
    State(backend): State<Arc<Backend>>,
    Query(parameters): Query<HashMap<String, String>>,
) -> Response {
    match ConsentRequest::parse(&parameters, &backend) {
        Ok(consent) => Html(page(&consent)).into_response(),
        Err(reason) => (StatusCode::BAD_REQUEST, reason).into_response(),
    }
}

/// Handles `POST /oauth/connect` with `decision=allow` or `decision=deny`.
pub(super) async fn submit_decision(
    State(backend): State<Arc<Backend>>,
    Query(query): Query<HashMap<String, String>>,
    Form(form): Form<HashMap<String, String>>,
) -> Response {
    let mut parameters = query;
    parameters.extend(form);
    let consent = match ConsentRequest::parse(&parameters, &backend) {
        Ok(consent) => consent,
        Err(reason) => return (StatusCode::BAD_REQUEST, reason).into_response(),
    };
    match parameters.get("decision").map(String::as_str) {
        Some("allow") => {
            let lifetime = backend.settings().code_lifetime;
            let owner = Some(consent.client_id.clone());
            let code = backend.data().oauth.issue_code(owner, consent.scopes.clone(), lifetime);
            consent.redirect_with("code", &code)
        }
        Some("deny") => consent.redirect_with("error", "access_denied"),
        _ => (StatusCode::BAD_REQUEST, "decision is allow or deny").into_response(),
    }
}

fn page(consent: &ConsentRequest) -> String {
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
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\">\
         <title>Connect to Payman (emulator)</title></head>\n\
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
