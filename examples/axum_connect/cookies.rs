//! Identifies users by a random cookie, which stands in for your service's own sign-in.

use std::convert::Infallible;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use uuid::Uuid;

use crate::serving::cookies;
use crate::site::Site;

/// The cookie with the `state` of a consent request.
pub const STATE: &str = "connect_state";
const USER: &str = "user";
const YEAR: u32 = 365 * 24 * 60 * 60;

/// A user of the service, known by a cookie.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct User(Uuid);

impl User {
    pub fn new() -> Self {
        Self(Uuid::new_v4())
    }

    /// Returns the name in the token store. It does not reveal the cookie, so that reading the
    /// store is not enough to sign in as the user.
    pub fn id(&self) -> String {
        Uuid::new_v5(&Uuid::NAMESPACE_OID, self.0.as_bytes()).to_string()
    }

    /// Returns the `Set-Cookie` value.
    pub fn cookie(&self, site: &Site) -> String {
        site.set_cookie(USER, &self.0.to_string(), YEAR)
    }
}

/// Identifies the user by the cookie, or gives a new user one.
pub async fn with_user(State(site): State<Site>, mut request: Request, next: Next) -> Response {
    let known = get(&site, request.headers(), USER).and_then(|text| text.parse().ok());
    let user = known.map_or_else(User::new, User);
    request.extensions_mut().insert(user.clone());
    let mut response = next.run(request).await;
    if known.is_none() {
        add_cookie(&mut response, &user.cookie(&site));
    }
    response
}

/// Adds a cookie, unless the response sets that one already.
pub fn add_cookie(response: &mut Response, cookie: &str) {
    let name = |cookie: &str| cookie.split('=').next().map(str::to_owned);
    let set = response.headers().get_all(header::SET_COOKIE);
    let is_set = set.into_iter().any(|value| value.to_str().ok().and_then(name) == name(cookie));
    if let (false, Ok(value)) = (is_set, HeaderValue::from_str(cookie)) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
}

impl<S: Sync> FromRequestParts<S> for User {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get().cloned().unwrap_or_else(Self::new))
    }
}

/// Returns 122 random bits.
pub fn random() -> String {
    Uuid::new_v4().simple().to_string()
}

/// Returns the value of a cookie.
pub fn get<'a>(site: &Site, headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    site.cookie(cookies(headers), name)
}
