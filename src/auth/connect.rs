//! Connecting a user: the consent URL, and the redirect that the browser brings back.

use std::borrow::Cow;
use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;
use url::Url;

use crate::endpoint::Environment;
#[cfg(doc)]
use crate::error::ErrorKind;
use crate::error::{Error, Result};

const CONSENT_PATH: &str = "/oauth/connect";

/// A permission that a user grants to an app.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scope {
    /// `read_balance`
    ReadBalance,
    /// `read_list_wallets`
    ReadListWallets,
    /// `read_list_payees`
    ReadListPayees,
    /// `read_list_transactions`
    ReadListTransactions,
    /// `write_create_payee`
    WriteCreatePayee,
    /// `write_send_payment`
    WriteSendPayment,
    /// `write_create_wallet`
    WriteCreateWallet,
    /// A scope that this version of the SDK does not know.
    Other(String),
}

impl Scope {
    /// Returns the name on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::ReadBalance => "read_balance",
            Self::ReadListWallets => "read_list_wallets",
            Self::ReadListPayees => "read_list_payees",
            Self::ReadListTransactions => "read_list_transactions",
            Self::WriteCreatePayee => "write_create_payee",
            Self::WriteSendPayment => "write_send_payment",
            Self::WriteCreateWallet => "write_create_wallet",
            Self::Other(text) => text,
        }
    }

    /// Reads a list as servers write it: separated by commas, or by spaces (RFC 6749).
    pub(crate) fn parse_list(text: &str) -> Vec<Self> {
        let names = text.split(|c: char| c == ',' || c.is_whitespace());
        names.filter(|name| !name.is_empty()).map(Self::from).collect()
    }
}

impl From<&str> for Scope {
    fn from(text: &str) -> Self {
        match text {
            "read_balance" => Self::ReadBalance,
            "read_list_wallets" => Self::ReadListWallets,
            "read_list_payees" => Self::ReadListPayees,
            "read_list_transactions" => Self::ReadListTransactions,
            "write_create_payee" => Self::WriteCreatePayee,
            "write_send_payment" => Self::WriteSendPayment,
            "write_create_wallet" => Self::WriteCreateWallet,
            other => Self::Other(other.to_owned()),
        }
    }
}

impl From<String> for Scope {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The code that the browser brings back after the user consented. It can be exchanged once, within
/// minutes.
///
/// Exchange it with [`Client::with_auth_code`](crate::Client::with_auth_code).
#[derive(Clone)]
pub struct AuthCode(SecretString);

impl AuthCode {
    /// Returns the secret code.
    #[must_use]
    pub fn expose_secret(&self) -> &str {
        self.0.expose_secret()
    }

    pub(crate) fn into_secret(self) -> SecretString {
        self.0
    }
}

impl From<&str> for AuthCode {
    fn from(code: &str) -> Self {
        Self(SecretString::from(code))
    }
}

impl From<String> for AuthCode {
    fn from(code: String) -> Self {
        Self(SecretString::from(code))
    }
}

impl From<SecretString> for AuthCode {
    fn from(code: SecretString) -> Self {
        Self(code)
    }
}

/// Written by hand, because the code is a secret.
impl fmt::Debug for AuthCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthCode([redacted])")
    }
}

/// The URL of the page where a user allows your app to act for them.
///
/// ```
/// use payman_sdk::{ConnectUrl, Scope};
///
/// # fn main() -> payman_sdk::Result<()> {
/// let csrf = "random, unguessable, kept in the user's session";
/// let url = ConnectUrl::new("client-id", "https://my.app/callback")
///     .scopes([Scope::ReadBalance, Scope::WriteSendPayment])
///     .state(csrf);
/// let page = "https://app.paymanai.com/oauth/connect?client_id=client-id&";
/// assert!(url.to_string().starts_with(page));
///
/// // The browser comes back to https://my.app/callback?code=…&state=…
/// # let state = "random,%20unguessable,%20kept%20in%20the%20user's%20session";
/// # let redirect = format!("https://my.app/callback?code=c0de&state={state}");
/// let code = ConnectUrl::parse_redirect(&redirect, csrf)?;
/// # assert_eq!(code.expose_secret(), "c0de");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq)]
#[must_use]
pub struct ConnectUrl {
    page: Cow<'static, str>,
    client_id: String,
    redirect_uri: String,
    scopes: Vec<String>,
    state: Option<String>,
    text: String,
}

impl ConnectUrl {
    /// Creates a URL of the live platform's page, without scopes.
    ///
    /// ```
    /// use payman_sdk::ConnectUrl;
    ///
    /// let url = ConnectUrl::new("client-id", "https://my.app/callback");
    /// assert!(url.as_str().starts_with("https://app.paymanai.com/oauth/connect"));
    /// ```
    pub fn new(client_id: impl Into<String>, redirect_uri: impl Into<String>) -> Self {
        Self {
            page: Cow::Borrowed(page_of(Environment::Live)),
            client_id: client_id.into(),
            redirect_uri: redirect_uri.into(),
            scopes: Vec::new(),
            state: None,
            text: String::new(),
        }
        .written()
    }

    /// Selects the live (default) or test platform. The last of this and
    /// [`base_url`](Self::base_url) counts.
    ///
    /// ```
    /// use payman_sdk::{ConnectUrl, Environment};
    ///
    /// let url = ConnectUrl::new("client-id", "https://my.app/callback")
    ///     .environment(Environment::Test);
    /// ```
    pub fn environment(mut self, environment: Environment) -> Self {
        self.page = Cow::Borrowed(page_of(environment));
        self.written()
    }

    /// Selects another server, such as an emulator. Its page is `{base}/oauth/connect`.
    ///
    /// ```
    /// use payman_sdk::ConnectUrl;
    ///
    /// let url = ConnectUrl::new("client-id", "https://my.app/callback")
    ///     .base_url("http://127.0.0.1:8731");
    /// ```
    pub fn base_url(mut self, base: impl AsRef<str>) -> Self {
        self.page =
            Cow::Owned(format!("{}{CONSENT_PATH}", base.as_ref().trim().trim_end_matches('/')));
        self.written()
    }

    /// Adds scopes.
    ///
    /// ```
    /// use payman_sdk::{ConnectUrl, Scope};
    ///
    /// let url = ConnectUrl::new("client-id", "https://my.app/callback")
    ///     .scopes([Scope::ReadBalance, Scope::WriteSendPayment]);
    /// ```
    pub fn scopes(mut self, scopes: impl IntoIterator<Item = Scope>) -> Self {
        self.scopes.extend(scopes.into_iter().map(|scope| scope.as_str().to_owned()));
        self.written()
    }

    /// Adds scopes as text, separated by commas.
    ///
    /// ```
    /// use payman_sdk::ConnectUrl;
    ///
    /// let url = ConnectUrl::new("client-id", "https://my.app/callback")
    ///     .scope_text("read_balance,new_scope");
    /// ```
    pub fn scope_text(mut self, scopes: impl Into<String>) -> Self {
        self.scopes.push(scopes.into());
        self.written()
    }

    /// Sets a random text that only your app and this user's browser know (the CSRF token). It
    /// comes back with the code, and proves that the browser that brings the code is the one that
    /// was sent to the page.
    ///
    /// ```
    /// use payman_sdk::ConnectUrl;
    ///
    /// let url = ConnectUrl::new("client-id", "https://my.app/callback")
    ///     .state("random-value-in-the-visitors-cookie");
    /// ```
    pub fn state(mut self, csrf: impl AsRef<str>) -> Self {
        self.state = Some(csrf.as_ref().to_owned());
        self.written()
    }

    /// Returns the URL.
    ///
    /// ```
    /// use payman_sdk::ConnectUrl;
    ///
    /// let url = ConnectUrl::new("client-id", "https://my.app/callback");
    /// println!("{}", url.as_str());
    /// ```
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn written(mut self) -> Self {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("client_id", &self.client_id);
        query.append_pair("redirect_uri", &self.redirect_uri);
        if !self.scopes.is_empty() {
            query.append_pair("scopes", &self.scopes.join(","));
        }
        if let Some(state) = &self.state {
            query.append_pair("state", state);
        }
        self.text = format!("{}?{}", self.page, query.finish().replace('+', "%20"));
        self
    }

    /// Reads the code out of the URL (or its query alone) that the browser came back to.
    ///
    /// ```
    /// use payman_sdk::ConnectUrl;
    ///
    /// # fn main() -> payman_sdk::Result<()> {
    /// let redirect = "https://my.app/callback?code=c-1&state=csrf-1";
    /// let code = ConnectUrl::parse_redirect(redirect, "csrf-1")?;
    /// assert!(ConnectUrl::parse_redirect(redirect, "another").is_err()); // forged
    /// # let _ = code;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`Auth`](crate::ErrorKind::Auth) where the `state` is not `csrf` (compared in
    /// constant time), or the user or the server refused: the code of the refusal, such as
    /// `access_denied`, is the error's [`body`](Error::body). Returns
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) where there is neither code nor error.
    pub fn parse_redirect(redirect: impl AsRef<str>, csrf: impl AsRef<str>) -> Result<AuthCode> {
        let query = query_of(redirect.as_ref());
        let (mut code, mut error, mut state) = (None, None, None);
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let slot = match &*name {
                "code" => &mut code,
                "error" => &mut error,
                "state" => &mut state,
                _ => continue,
            };
            if slot.replace(value.into_owned()).is_some() {
                return Err(Error::invalid_input(
                    "the redirect names its code, error or state twice",
                ));
            }
        }
        let csrf = csrf.as_ref();
        let same =
            state.as_deref().is_some_and(|state| state.as_bytes().ct_eq(csrf.as_bytes()).into());
        if csrf.is_empty() || !same {
            return Err(Error::redirect_forged());
        }
        if let Some(error) = error {
            return Err(Error::redirect_refused(printable(&error)));
        }
        code.filter(|code| !code.trim().is_empty())
            .map(AuthCode::from)
            .ok_or_else(|| Error::invalid_input("the redirect holds neither a code nor an error"))
    }
}

fn page_of(environment: Environment) -> &'static str {
    match environment {
        Environment::Live => "https://app.paymanai.com/oauth/connect",
        Environment::Test => "https://app.payman.dev/oauth/connect",
    }
}

/// Returns the query of a URL or of a path with a query; a bare query is returned as it is.
fn query_of(redirect: &str) -> &str {
    let redirect = redirect.trim();
    let before_fragment = redirect.split('#').next().unwrap_or_default();
    match before_fragment.split_once('?') {
        Some((_, query)) => query,
        None if Url::parse(before_fragment).is_ok() => "",
        None => before_fragment,
    }
}

/// Keeps printable ASCII characters and cuts the text: RFC 6749's error codes are short and
/// printable, but anyone can call the redirect URL.
fn printable(code: &str) -> String {
    code.chars().filter(|c| c.is_ascii_graphic()).take(64).collect()
}

impl fmt::Display for ConnectUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl AsRef<str> for ConnectUrl {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

/// Written by hand, because the state is a secret of the app and the browser.
impl fmt::Debug for ConnectUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectUrl")
            .field("page", &self.page)
            .field("client_id", &self.client_id)
            .field("scopes", &self.scopes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_holds_all_parameters_percent_encoded() {
        let url = ConnectUrl::new("a&b", "https://my.app/back?x=1&y=2")
            .environment(Environment::Test)
            .scopes([Scope::ReadBalance, Scope::Other("new scope".to_owned())])
            .scope_text("free")
            .state("s +/");
        assert_eq!(
            url.to_string(),
            "https://app.payman.dev/oauth/connect?client_id=a%26b\
             &redirect_uri=https%3A%2F%2Fmy.app%2Fback%3Fx%3D1%26y%3D2\
             &scopes=read_balance%2Cnew%20scope%2Cfree&state=s%20%2B%2F"
        );
        assert!(!format!("{url:?}").contains("+/"));
        let local = ConnectUrl::new("a", "b").base_url("http://127.0.0.1:1/");
        assert_eq!(local.as_str(), "http://127.0.0.1:1/oauth/connect?client_id=a&redirect_uri=b");
    }

    #[test]
    fn a_redirect_can_be_a_url_a_path_or_a_query() {
        for redirect in [
            "https://my.app/back?code=c%2B1&state=s",
            "/back?state=s&code=c%2B1#fragment",
            "code=c%2B1&state=s&new=1",
        ] {
            let code = ConnectUrl::parse_redirect(redirect, "s").unwrap();
            assert_eq!(code.expose_secret(), "c+1", "{redirect}");
            assert!(!format!("{code:?}").contains("c+1"));
        }
    }

    #[test]
    fn a_foreign_or_missing_state_is_refused() {
        for (redirect, csrf) in [
            ("?code=c&state=other", "s"),
            ("?code=c&state=", "s"),
            ("?code=c", "s"),
            ("?code=c&state=", ""),
            ("?code=c", ""),
            ("?error=access_denied&state=x", "s"),
        ] {
            let error = ConnectUrl::parse_redirect(redirect, csrf).unwrap_err();
            assert!(error.is_auth() && error.to_string().contains("state"), "{redirect}: {error}");
        }
        assert!(
            ConnectUrl::parse_redirect("?code=c&state=x&state=s", "s")
                .unwrap_err()
                .is_invalid_input()
        );
    }

    #[test]
    fn a_refusal_reports_its_code() {
        let error = ConnectUrl::parse_redirect("?error=access_denied&state=s", "s").unwrap_err();
        assert!(error.is_auth() && error.to_string().contains("access_denied"));
        assert_eq!(error.body().as_deref(), Some("access_denied"));
        assert!(
            ConnectUrl::parse_redirect("https://my.app/?state=s", "s")
                .unwrap_err()
                .is_invalid_input()
        );
        assert!(
            ConnectUrl::parse_redirect("?code=%20&state=s", "s").unwrap_err().is_invalid_input()
        );
    }
}
