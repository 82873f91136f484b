//! Who is at the browser. A random cookie stands in for your service's own sign-in.
//!
//! Where the service is on https, as it should be anywhere but here, add `Secure`.

use std::convert::Infallible;

use axum::extract::{FromRequestParts, Request};
use axum::http::HeaderMap;
use axum::http::header::{COOKIE, HeaderName, SET_COOKIE};
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use uuid::Uuid;

/// The `state` of a connection that was begun.
pub const STATE: &str = "connect_state";
const USER: &str = "user";
const YEAR: u32 = 365 * 24 * 60 * 60;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct User(Uuid);

impl User {
    pub fn new() -> Self {
        Self(Uuid::new_v4())
    }

    /// For the store's key: the store holds no cookie that would let its reader in.
    pub fn id(&self) -> String {
        Uuid::new_v5(&Uuid::NAMESPACE_OID, self.0.as_bytes()).to_string()
    }
}

/// From the cookie; else a new user.
pub async fn with_user(mut request: Request, next: Next) -> Response {
    let known = get(request.headers(), USER).and_then(|text| text.parse().ok());
    let user = known.map_or_else(User::new, User);
    request.extensions_mut().insert(user.clone());
    let response = next.run(request).await;
    if known.is_some() {
        return response;
    }
    // `append`: the response may set a cookie of its own.
    let (mut parts, body) = response.into_parts();
    for (name, value) in set(USER, &user.0.to_string(), "/", YEAR).into_response().headers() {
        parts.headers.append(name, value.clone());
    }
    Response::from_parts(parts, body)
}

impl<S: Sync> FromRequestParts<S> for User {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get().cloned().unwrap_or_else(Self::new))
    }
}

/// 122 random bits.
pub fn random() -> String {
    Uuid::new_v4().simple().to_string()
}

/// No script reads it, and no other site's form sends it.
pub fn set(name: &str, value: &str, path: &str, seconds: u32) -> [(HeaderName, String); 1] {
    [(
        SET_COOKIE,
        format!("{name}={value}; Path={path}; Max-Age={seconds}; HttpOnly; SameSite=Lax"),
    )]
}

pub fn get<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let cookies = headers.get_all(COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut pairs =
        cookies.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}
