//! The three OAuth grants: one request to the token endpoint, and the effect of its failure.
//!
//! The [token manager](super::manager) handles a failed token request as follows:
//!
//! * **No connection**: nothing was sent. It is repeated with backoff.
//! * **429, 503, `temporarily_unavailable`**: the server did not act. It is repeated after
//!   `Retry-After` or with backoff, within limits; a refresh token is kept, an auth code is an
//!   error.
//! * **408, 500, 502, 504, `server_error`**: the same, but the server may have acted. A refresh
//!   token counts as lost where [`Config::retry_lost_refresh`](crate::Config::retry_lost_refresh)
//!   is false; with an auth code the user must connect again.
//! * **Reply lost or unreadable** (reset, time limit, an error that broke off, no token in it):
//!   client credentials are sent again with backoff. The same refresh token is sent once more,
//!   unless `retry_lost_refresh` is false, because the server may or may not have rotated it; the
//!   access token is used meanwhile. If that reply is lost too, callers get an error and the
//!   refresh token is kept. With an auth code the user must connect again.
//! * **`invalid_grant`**: the user must connect again. An app falls back to its credentials.
//! * **`invalid_client` or another code, 3xx, another 4xx**: an error. The refresh token is kept,
//!   because an answer that does not name the grant ends no sign-in. For an auth code and a 400
//!   without a code, the user must connect again.
//!
//! An auth code is never sent twice, except where nothing was sent.
//!
//! Any 2xx with a readable refresh token is a success: the refresh token is stored before the
//! access token next to it is looked at. Parameters travel in the query string, so that the
//! request's URL is a secret: it is in no error and no log. Of the answer, only OAuth's own error
//! fields are kept, without the secrets that were sent.

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use futures::future::BoxFuture;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, HeaderValue};
use reqwest::{Method, Request};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;
use url::Url;

use super::redact::{redacted, reduced};

use crate::endpoint::BaseUrl;
use crate::error::{Error, ErrorKind, Result, Source};
use crate::time::{instant_after, timeout_with_grace};
use crate::transport::{ErrorBody, Failure, Http, read_body, read_error_body, retry_after};
use crate::wire::json;
use crate::wire::oauth::{TokenRefusal, TokenReply};
use crate::wire::path;

/// The time limit of one token request, from connecting to the last byte.
pub(crate) const EXCHANGE_LIMIT: Duration = Duration::from_secs(30);
const MAX_REPLY_BYTES: usize = 64 * 1024;
/// The upper bound of a server's `Retry-After`.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60 * 60);

/// A grant to exchange for a token.
#[derive(Clone)]
pub(crate) enum Grant {
    ClientCredentials,
    AuthCode(SecretString),
    Refresh(SecretString),
}

impl Grant {
    /// Returns the value of OAuth's `grant_type` parameter.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::ClientCredentials => "client_credentials",
            Self::AuthCode(_) => "authorization_code",
            Self::Refresh(_) => "refresh_token",
        }
    }

    pub(crate) fn is_refresh(&self) -> bool {
        matches!(self, Self::Refresh(_))
    }
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The contents of a successful token response.
pub(crate) struct Granted {
    pub(crate) access: SecretString,
    pub(crate) refresh: Option<SecretString>,
    /// The lifetime in seconds, counted from the start of the request.
    pub(crate) expires_in: Option<i64>,
    pub(crate) scope: Option<String>,
}

/// Classifies a failed token request by its effect on the grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GrantFault {
    /// Nothing was sent: the grant is unspent.
    NotSent,
    /// The server was too busy to act: the grant is unspent.
    Busy,
    /// The server failed, perhaps after it acted.
    Failed,
    /// The grant may or may not have been spent.
    Lost,
    /// The app's request was refused; the grant is unspent.
    Refused,
    /// The server no longer accepts the code or the refresh token.
    GrantDead,
}

/// The failure of a token request. Its error never stands for an ask that may have been done.
#[derive(Debug)]
pub(crate) struct ExchangeError {
    pub(crate) fault: GrantFault,
    pub(crate) error: Error,
    /// True where the answer has an OAuth error code.
    pub(crate) names_reason: bool,
}

impl ExchangeError {
    pub(crate) fn new(fault: GrantFault, kind: ErrorKind, message: &'static str) -> Self {
        Self { fault, error: Error::token_request(kind, message), names_reason: false }
    }

    fn caused_by(mut self, source: impl Into<Source>) -> Self {
        self.error = self.error.with_source(source);
        self
    }

    /// Adapts the failure to the grant: no user can renew an app's own credentials, so that their
    /// failure never asks for a new sign-in.
    fn of(mut self, grant: &Grant) -> Self {
        if self.fault == GrantFault::GrantDead && matches!(grant, Grant::ClientCredentials) {
            self.fault = GrantFault::Refused;
            self.error = self.error.with_kind(ErrorKind::Auth);
        }
        self
    }

    /// Builds the failure of a reply that holds neither a token nor an error.
    pub(crate) fn garbled(message: &'static str) -> Self {
        Self::new(GrantFault::Lost, ErrorKind::Protocol, message)
    }
}

/// Sends exactly one token request. Tests implement it with scripted replies.
pub(crate) trait Exchange: Send + Sync {
    fn exchange(&self, grant: Grant) -> BoxFuture<'static, Result<Granted, ExchangeError>>;
}

/// The token endpoint.
pub(crate) struct HttpExchange {
    http: Http,
    url: Url,
    client_id: String,
    /// The Basic credentials, marked as sensitive; `None` for an app without a secret.
    basic: Option<HeaderValue>,
    client_secret: Option<SecretString>,
}

impl HttpExchange {
    pub(crate) fn new(
        http: &Http,
        base: &BaseUrl,
        client_id: &str,
        client_secret: Option<&SecretString>,
    ) -> Result<Self> {
        let basic = match client_secret {
            Some(secret) => Some(basic(client_id, secret)?),
            None => None,
        };
        Ok(Self {
            http: http.clone(),
            url: base.join(path::TOKEN),
            client_id: client_id.to_owned(),
            basic,
            client_secret: client_secret.cloned(),
        })
    }

    /// Returns every secret of a request, none of which may be shown.
    fn secrets_sent(&self, grant: &Grant) -> Vec<SecretString> {
        let mut secrets: Vec<_> = self.client_secret.iter().cloned().collect();
        match grant {
            Grant::ClientCredentials => {}
            Grant::AuthCode(secret) | Grant::Refresh(secret) => secrets.push(secret.clone()),
        }
        secrets
    }

    fn request(&self, grant: &Grant) -> Request {
        let mut url = self.url.clone();
        {
            let mut query = url.query_pairs_mut();
            query.append_pair("grant_type", grant.name());
            match grant {
                Grant::ClientCredentials => {}
                Grant::AuthCode(code) => {
                    query.append_pair("code", code.expose_secret());
                }
                Grant::Refresh(token) => {
                    query.append_pair("refresh_token", token.expose_secret());
                }
            }
            if self.basic.is_none() {
                query.append_pair("client_id", &self.client_id);
            }
        }
        // Not every server decodes a form's `+` as a space.
        let spaced = url.query().map(|query| query.replace('+', "%20"));
        url.set_query(spaced.as_deref());
        let mut request = Request::new(Method::POST, url);
        *request.body_mut() = Some(Bytes::new().into());
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, */*;q=0.1"));
        // Some servers refuse a POST without a length (411).
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        if let Some(basic) = &self.basic {
            headers.insert(AUTHORIZATION, basic.clone());
        }
        request
    }
}

fn basic(client_id: &str, secret: &SecretString) -> Result<HeaderValue> {
    let pair = Zeroizing::new(format!("{client_id}:{}", secret.expose_secret()));
    let text = Zeroizing::new(format!("Basic {}", BASE64_STANDARD.encode(pair.as_bytes())));
    let mut header = HeaderValue::from_str(&text)
        .map_err(|_| Error::invalid_input("the client id and secret do not fit into a header"))?;
    header.set_sensitive(true);
    Ok(header)
}

impl Exchange for HttpExchange {
    fn exchange(&self, grant: Grant) -> BoxFuture<'static, Result<Granted, ExchangeError>> {
        let (http, request) = (self.http.clone(), self.request(&grant));
        let secrets = self.secrets_sent(&grant);
        Box::pin(async move {
            let started = Instant::now();
            let exchanging = exchange(&http, request, &secrets);
            let exchanged = timeout_with_grace(EXCHANGE_LIMIT, exchanging).await;
            let exchanged = exchanged.unwrap_or_else(|_| {
                http.leave_pool_of(started);
                Err(of_failure(Failure::TimedOut))
            });
            exchanged.map_err(|failed| failed.of(&grant))
        })
    }
}

/// Sends the request and reads the reply. The only time limit is the caller's: a second timer that
/// expires while the runtime stands still would discard a reply that is in the socket.
async fn exchange(
    http: &Http,
    mut request: Request,
    secrets: &[SecretString],
) -> Result<Granted, ExchangeError> {
    let until = instant_after(Duration::MAX);
    // In place of the total time limit that the program may have set for the HTTP client.
    *request.timeout_mut() = Some(until.saturating_duration_since(Instant::now()));
    let mut response = http.send(request).await.map_err(of_failure)?;
    let status = response.status().as_u16();
    if !(200..300).contains(&status) {
        let wait = retry_after(response.headers()).map(|wait| wait.min(LONGEST_RETRY_AFTER));
        let body = read_error_body(&mut response, MAX_REPLY_BYTES, until).await;
        return Err(of_answer(status, &body, wait, secrets));
    }
    let body = read_body(&mut response, MAX_REPLY_BYTES, until).await.map_err(of_failure)?;
    read_reply(&body, secrets)
}

/// Reads a successful reply. No part of it goes into an error, because it may hold a token.
fn read_reply(body: &[u8], secrets: &[SecretString]) -> Result<Granted, ExchangeError> {
    let body = json::without_bom(body);
    // serde would accept an array as well.
    let is_object = body.trim_ascii_start().starts_with(b"{");
    let Some(mut reply) = json::from_body::<TokenReply>(body).ok().filter(|_| is_object) else {
        return Err(ExchangeError::garbled(
            "the token endpoint's reply is not the JSON that was expected",
        ));
    };
    let access = reply.take_access_token().map(trimmed);
    let refresh = reply.take_refresh_token().map(trimmed);
    if access.is_some() || refresh.is_some() {
        let scope = reply.scope.take();
        return Ok(Granted {
            access: access.unwrap_or_default(),
            refresh,
            expires_in: reply.expires_in(),
            scope: scope.filter(|scope| redacted(scope, secrets) == *scope),
        });
    }
    match code_of(body) {
        // Some servers refuse with a success status.
        Some(code) => Err(of_answer_with(200, Some(&code))),
        None => Err(ExchangeError::garbled("the token endpoint's reply holds no access token")),
    }
}

/// Cuts white space around a token, such as a line end.
fn trimmed(token: String) -> SecretString {
    let token = Zeroizing::new(token);
    SecretString::from(token.trim())
}

fn code_of(body: &[u8]) -> Option<String> {
    let code = json::from_body::<TokenRefusal>(body).ok()?.error?;
    Some(code.trim().to_owned()).filter(|code| !code.is_empty())
}

fn of_failure(failure: Failure) -> ExchangeError {
    match failure {
        Failure::NotConnected { source, .. } => ExchangeError::new(
            GrantFault::NotSent,
            ErrorKind::Connect,
            "the token endpoint could not be reached",
        )
        .caused_by(source),
        Failure::NotSent(_) => ExchangeError::new(
            GrantFault::NotSent,
            ErrorKind::Connect,
            "the token endpoint could not be reached",
        ),
        Failure::Lost(source) => ExchangeError::new(
            GrantFault::Lost,
            ErrorKind::Interrupted,
            "the token endpoint's reply was lost",
        )
        .caused_by(source),
        Failure::TimedOut => ExchangeError::new(
            GrantFault::Lost,
            ErrorKind::Timeout,
            "the token endpoint did not reply in time",
        ),
        Failure::TooLarge { .. } => ExchangeError::new(
            GrantFault::Lost,
            ErrorKind::TooLarge,
            "the token endpoint's reply is larger than any token's",
        ),
    }
}

fn of_answer(
    status: u16,
    body: &ErrorBody,
    wait: Option<Duration>,
    secrets: &[SecretString],
) -> ExchangeError {
    let mut failed = of_answer_with(status, code_of(&body.bytes).as_deref());
    if !body.is_whole && matches!(failed.fault, GrantFault::GrantDead | GrantFault::Refused) {
        // The missing rest may hold the error code, so the sign-in is not ended.
        failed = ExchangeError::garbled("the token endpoint's error broke off");
    }
    failed.error = failed.error.with_status(status).with_retry_after(wait);
    if let Some(reduced) = reduced(&body.bytes, secrets) {
        failed.error = failed.error.with_body(reduced);
    }
    failed
}

/// Reads the status and RFC 6749's error code.
fn of_answer_with(status: u16, code: Option<&str>) -> ExchangeError {
    ExchangeError { names_reason: code.is_some_and(is_code), ..fault_of_answer(status, code) }
}

/// Returns true for a text with the form of an error code, unlike a sentence ("Bad Request").
fn is_code(code: &str) -> bool {
    code.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

fn fault_of_answer(status: u16, code: Option<&str>) -> ExchangeError {
    use ErrorKind::{Auth, Http, RateLimited, ReauthorizationRequired};
    match (status, code) {
        (429 | 503, _) | (400..500, Some("temporarily_unavailable")) => {
            ExchangeError::new(GrantFault::Busy, RateLimited, "the token endpoint is busy")
        }
        (408 | 500.., _) | (_, Some("server_error" | "temporarily_unavailable")) => {
            ExchangeError::new(GrantFault::Failed, Http, "the token endpoint failed")
        }
        (_, Some("invalid_grant")) => ExchangeError::new(
            GrantFault::GrantDead,
            ReauthorizationRequired,
            "the token endpoint refused the grant",
        ),
        (400 | 401 | 403, _)
        | (_, Some("invalid_client" | "unauthorized_client" | "access_denied")) => {
            ExchangeError::new(
                GrantFault::Refused,
                Auth,
                "the token endpoint refused the request or the app's credentials",
            )
        }
        (300..400, _) => ExchangeError::new(
            GrantFault::Refused,
            Http,
            "the token endpoint redirects; tokens are asked for only where the base URL says",
        ),
        _ => {
            ExchangeError::new(GrantFault::Refused, Http, "the token endpoint refused the request")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(secret: Option<&str>) -> HttpExchange {
        let base = BaseUrl::parse("http://127.0.0.1:9").unwrap();
        let settings = crate::transport::HttpSettings {
            plain_loopback: true,
            connect_timeout: Duration::from_secs(1),
            configure: None,
        };
        let http = Http::new(settings).unwrap();
        let secret = secret.map(SecretString::from);
        HttpExchange::new(&http, &base, "id & co", secret.as_ref()).unwrap()
    }

    #[test]
    fn parameters_travel_percent_encoded_in_the_query() {
        let request = endpoint(Some("s")).request(&Grant::Refresh("a+b c&d=é".to_owned().into()));
        assert_eq!(
            request.url().query(),
            Some("grant_type=refresh_token&refresh_token=a%2Bb%20c%26d%3D%C3%A9")
        );
        let basic = request.headers().get(AUTHORIZATION).unwrap();
        assert!(basic.is_sensitive());
        assert_eq!(
            basic.to_str().unwrap(),
            format!("Basic {}", BASE64_STANDARD.encode("id & co:s"))
        );
        let code = endpoint(Some("s")).request(&Grant::AuthCode("c".to_owned().into()));
        assert_eq!(code.url().query(), Some("grant_type=authorization_code&code=c"));
    }

    #[test]
    fn an_app_without_a_secret_sends_its_client_id() {
        let request = endpoint(None).request(&Grant::Refresh("r".to_owned().into()));
        assert_eq!(
            request.url().query(),
            Some("grant_type=refresh_token&refresh_token=r&client_id=id%20%26%20co")
        );
        assert!(request.headers().get(AUTHORIZATION).is_none());
    }

    #[test]
    fn answers_are_classified() {
        let cases = [
            (429, "", GrantFault::Busy),
            (503, "{}", GrantFault::Busy),
            (500, "oops", GrantFault::Failed),
            (502, "", GrantFault::Failed),
            (504, "", GrantFault::Failed),
            (408, "", GrantFault::Failed),
            (400, r#"{"error":"invalid_grant"}"#, GrantFault::GrantDead),
            (401, r#"{"error":"invalid_grant"}"#, GrantFault::GrantDead),
            (400, "no JSON", GrantFault::Refused),
            (400, r#"{"error":"Bad Request","status":400}"#, GrantFault::Refused),
            (400, r#"{"error":"invalid_client"}"#, GrantFault::Refused),
            (400, r#"{"error":"invalid_request"}"#, GrantFault::Refused),
            (400, r#"{"error":"temporarily_unavailable"}"#, GrantFault::Busy),
            (401, "", GrantFault::Refused),
            (403, "", GrantFault::Refused),
            (404, "", GrantFault::Refused),
            (307, "", GrantFault::Refused),
        ];
        for (status, body, fault) in cases {
            let bytes = Bytes::copy_from_slice(body.as_bytes());
            let whole = ErrorBody { bytes: bytes.clone(), is_whole: true };
            let error = of_answer(status, &whole, None, &[]);
            assert_eq!(error.fault, fault, "{status} {body}");
            assert!(error.error.is_safe_to_ask_again());
            let cut = of_answer(status, &ErrorBody { bytes, is_whole: false }, None, &[]);
            assert!(
                matches!(cut.fault, GrantFault::Lost | GrantFault::Busy | GrantFault::Failed),
                "{status} {body}: {:?}",
                cut.fault
            );
        }
    }

    #[test]
    fn unreadable_replies_count_as_lost_and_are_not_shown() {
        for body in
            ["", "{", r#"{"accessToken":""}"#, r#"{"hush":"hush"}"#, r#"["hush"]"#, r#""hush""#]
        {
            let error = read_reply(body.as_bytes(), &[]).err().unwrap();
            assert_eq!(error.fault, GrantFault::Lost, "{body}");
            assert!(!format!("{error:?}").contains("hush"));
        }
        let error = read_reply(br#"{"error":"invalid_grant"}"#, &[]).err().unwrap();
        assert_eq!(error.fault, GrantFault::GrantDead);
    }
}
