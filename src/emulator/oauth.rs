//! OAuth state: sign-ins, authorization codes, access and refresh tokens.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret;
use subtle::ConstantTimeEq;
use tokio::time::Instant;
use uuid::Uuid;

use super::settings::{Settings, all_scopes};

type Scopes = Arc<BTreeSet<String>>;

/// A time of expiry; `None` if it is later than the clock can represent.
#[derive(Clone, Copy)]
struct Expiry(Option<Instant>);

impl Expiry {
    fn after(lifetime: Duration) -> Self {
        Self(Instant::now().checked_add(lifetime))
    }

    fn has_passed(self) -> bool {
        self.0.is_some_and(|end| Instant::now() >= end)
    }
}

/// A sign-in: the unit of revocation. It owns the tokens of one exchange and all its refreshes.
struct SignIn {
    client_id: String,
    scopes: Scopes,
    is_revoked: bool,
}

struct IssuedAccessToken {
    sign_in: usize,
    expires: Expiry,
}

struct IssuedRefreshToken {
    sign_in: usize,
    is_spent: bool,
}

struct IssuedCode {
    /// The client that may use the code; any client if `None`.
    client_id: Option<String>,
    scopes: BTreeSet<String>,
    expires: Expiry,
}

/// All sign-ins and their tokens.
#[derive(Default)]
pub(super) struct OAuth {
    sign_ins: Vec<SignIn>,
    access: HashMap<String, IssuedAccessToken>,
    refresh: HashMap<String, IssuedRefreshToken>,
    codes: HashMap<String, IssuedCode>,
    refresh_reuses: u64,
}

/// A successful token response.
pub(super) struct IssuedTokens {
    pub(super) access_token: String,
    pub(super) refresh_token: Option<String>,
    pub(super) expires_in: Duration,
    pub(super) scopes: Scopes,
}

/// A refused token request, with the error names of RFC 6749, section 5.2.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum OAuthError {
    InvalidRequest(&'static str),
    InvalidClient(&'static str),
    InvalidGrant(&'static str),
    InvalidScope(&'static str),
    UnsupportedGrantType,
}

/// The parameters of a token request.
#[derive(Default)]
pub(super) struct TokenRequest {
    pub(super) grant_type: Option<String>,
    pub(super) code: Option<String>,
    pub(super) refresh_token: Option<String>,
    pub(super) scope: Option<String>,
    pub(super) client_id: Option<String>,
    pub(super) client_secret: Option<String>,
}

impl OAuth {
    pub(super) fn refresh_reuses(&self) -> u64 {
        self.refresh_reuses
    }

    /// Returns the scopes of an access token; `None` if it is unknown, expired or revoked.
    pub(super) fn scopes_of(&self, access_token: &str) -> Option<Scopes> {
        let access = self.access.get(access_token).filter(|access| !access.expires.has_passed())?;
        let sign_in = self.sign_ins.get(access.sign_in).filter(|sign_in| !sign_in.is_revoked)?;
        Some(Arc::clone(&sign_in.scopes))
    }

    /// Performs the grant that a token request asks for.
    pub(super) fn exchange(
        &mut self,
        request: &TokenRequest,
        settings: &Settings,
    ) -> Result<IssuedTokens, OAuthError> {
        let client_id = authenticate(request, settings)?;
        match request.grant_type.as_deref() {
            Some("client_credentials") => self.client_credentials(client_id, request, settings),
            Some("authorization_code") => self.authorization_code(client_id, request, settings),
            Some("refresh_token") => self.refresh(client_id, request, settings),
            Some(_) => Err(OAuthError::UnsupportedGrantType),
            None => Err(OAuthError::InvalidRequest("grant_type is missing")),
        }
    }

    fn client_credentials(
        &mut self,
        client_id: &str,
        request: &TokenRequest,
        settings: &Settings,
    ) -> Result<IssuedTokens, OAuthError> {
        if non_blank(request.client_secret.as_ref()).is_none() {
            return Err(OAuthError::InvalidClient("client_credentials needs the client secret"));
        }
        let asked = request.scope.as_deref().map(split_scopes).filter(|scopes| !scopes.is_empty());
        let scopes = match asked {
            Some(scopes) if scopes.is_subset(&settings.scopes) => scopes,
            Some(_) => return Err(OAuthError::InvalidScope("this client may not have that scope")),
            None => settings.scopes.clone(),
        };
        let sign_in = self.sign_in(client_id, scopes);
        let refresh_token = settings.refresh_tokens_for_apps.then(|| self.issue_refresh(sign_in));
        Ok(self.issue(sign_in, refresh_token, settings))
    }

    fn authorization_code(
        &mut self,
        client_id: &str,
        request: &TokenRequest,
        settings: &Settings,
    ) -> Result<IssuedTokens, OAuthError> {
        let code = non_blank(request.code.as_ref())
            .ok_or(OAuthError::InvalidRequest("code is missing"))?;
        let code = self
            .codes
            .remove(code)
            .ok_or(OAuthError::InvalidGrant("the code is unknown or was used"))?;
        if code.expires.has_passed() {
            return Err(OAuthError::InvalidGrant("the code has expired"));
        }
        if code.client_id.is_some_and(|owner| owner != client_id) {
            return Err(OAuthError::InvalidGrant("the code belongs to another client"));
        }
        let sign_in = self.sign_in(client_id, code.scopes);
        let refresh_token = self.issue_refresh(sign_in);
        Ok(self.issue(sign_in, Some(refresh_token), settings))
    }

    fn refresh(
        &mut self,
        client_id: &str,
        request: &TokenRequest,
        settings: &Settings,
    ) -> Result<IssuedTokens, OAuthError> {
        let token = non_blank(request.refresh_token.as_ref())
            .ok_or(OAuthError::InvalidRequest("refresh_token is missing"))?;
        let unknown = OAuthError::InvalidGrant("the refresh token is unknown or revoked");
        let refresh = self.refresh.get_mut(token).ok_or(unknown)?;
        let sign_in_index = refresh.sign_in;
        let sign_in = self
            .sign_ins
            .get_mut(sign_in_index)
            .filter(|sign_in| owned_by(sign_in, client_id))
            .ok_or(unknown)?;
        if refresh.is_spent {
            self.refresh_reuses += 1;
            sign_in.is_revoked = true;
            return Err(OAuthError::InvalidGrant(
                "the refresh token was used before: the sign-in is revoked",
            ));
        }
        if sign_in.is_revoked {
            return Err(unknown);
        }
        if settings.rotate_refresh_tokens {
            refresh.is_spent = true;
            let successor = self.issue_refresh(sign_in_index);
            return Ok(self.issue(sign_in_index, Some(successor), settings));
        }
        let unchanged = settings.refresh_token_in_refresh_replies.then(|| token.to_owned());
        Ok(self.issue(sign_in_index, unchanged, settings))
    }

    fn sign_in(&mut self, client_id: &str, scopes: BTreeSet<String>) -> usize {
        self.sign_ins.push(SignIn {
            client_id: client_id.to_owned(),
            scopes: Arc::new(scopes),
            is_revoked: false,
        });
        self.sign_ins.len() - 1
    }

    fn issue(
        &mut self,
        sign_in: usize,
        refresh_token: Option<String>,
        settings: &Settings,
    ) -> IssuedTokens {
        let access_token = random_token("emu-access");
        let expires = Expiry::after(settings.token_lifetime);
        self.access.insert(access_token.clone(), IssuedAccessToken { sign_in, expires });
        let scopes = self
            .sign_ins
            .get(sign_in)
            .map(|sign_in| Arc::clone(&sign_in.scopes))
            .unwrap_or_default();
        IssuedTokens { access_token, refresh_token, expires_in: settings.token_lifetime, scopes }
    }

    fn issue_refresh(&mut self, sign_in: usize) -> String {
        let token = random_token("emu-refresh");
        self.refresh.insert(token.clone(), IssuedRefreshToken { sign_in, is_spent: false });
        token
    }

    /// Issues an authorization code, for any client if `client_id` is `None`.
    pub(super) fn issue_code(
        &mut self,
        client_id: Option<String>,
        scopes: BTreeSet<String>,
        lifetime: Duration,
    ) -> String {
        let code = random_token("emu-code");
        self.codes.insert(
            code.clone(),
            IssuedCode { client_id, scopes, expires: Expiry::after(lifetime) },
        );
        code
    }

    /// Creates a sign-in without an exchange. Any client may refresh it.
    pub(super) fn issue_tokens(
        &mut self,
        scopes: BTreeSet<String>,
        settings: &Settings,
    ) -> IssuedTokens {
        let sign_in = self.sign_in("", scopes);
        let refresh_token = self.issue_refresh(sign_in);
        self.issue(sign_in, Some(refresh_token), settings)
    }

    pub(super) fn expire_access_tokens(&mut self) {
        self.access.clear();
    }

    pub(super) fn revoke_all(&mut self) {
        for sign_in in &mut self.sign_ins {
            sign_in.is_revoked = true;
        }
    }
}

fn owned_by(sign_in: &SignIn, client_id: &str) -> bool {
    sign_in.client_id.is_empty() || sign_in.client_id == client_id
}

/// Returns the client id. The secret may be missing, as for public clients.
fn authenticate<'a>(request: &'a TokenRequest, settings: &Settings) -> Result<&'a str, OAuthError> {
    let id = non_blank(request.client_id.as_ref())
        .ok_or(OAuthError::InvalidClient("there is no client id"))?;
    let Some((known_id, known_secret)) = &settings.credentials else {
        return Ok(id);
    };
    let secret = non_blank(request.client_secret.as_ref());
    let matches = secret.is_none_or(|secret| same_secret(secret, known_secret.expose_secret()));
    if id != known_id || !matches {
        return Err(OAuthError::InvalidClient("the client id or secret is wrong"));
    }
    Ok(id)
}

fn same_secret(a: &str, b: &str) -> bool {
    a.as_bytes().ct_eq(b.as_bytes()).into()
}

fn non_blank(text: Option<&String>) -> Option<&str> {
    text.map(String::as_str).filter(|text| !text.trim().is_empty())
}

/// Splits a list of scopes at commas (as on the consent page) or spaces.
pub(super) fn split_scopes(text: &str) -> BTreeSet<String> {
    text.split([',', ' '])
        .map(str::trim)
        .filter(|scope| !scope.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Returns the scopes of any token if the settings accept every token.
pub(super) fn every_scope() -> Scopes {
    Arc::new(all_scopes())
}

fn random_token(prefix: &str) -> String {
    format!("{prefix}-{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple())
}
