//! Protects a site that holds money: checks its requests, and sets its cookies.
//!
//! A browser sends a visitor's cookies along with requests that other sites make. Three checks keep
//! those out: `Host` has to be an address of this site (DNS rebinding), `Origin` has to be this
//! site (other sites' pages), and a request that changes something has to be JSON, which no form
//! can send.

use std::sync::Arc;

use payman_sdk::web::Problem;

/// A site, known by the origins under which browsers reach it.
#[derive(Clone)]
pub struct Site {
    origins: Arc<[String]>,
}

/// The properties of a request that the checks need.
pub struct RequestFacts<'a> {
    /// True for a request that may change something: any method but GET and HEAD.
    pub is_write: bool,
    /// The `Host` header, or the authority of the request's URL.
    pub host: Option<&'a str>,
    pub origin: Option<&'a str>,
    pub fetch_site: Option<&'a str>,
    pub content_type: Option<&'a str>,
}

impl Site {
    /// Creates the site that listens on a port of this machine. `public` is its origin behind a
    /// proxy, such as `https://chat.example`.
    pub fn new(port: u16, public: Option<String>) -> Self {
        let local = ["127.0.0.1", "localhost"].map(|host| format!("http://{host}:{port}"));
        let origins = public.into_iter().chain(local);
        Self { origins: origins.map(|origin| origin.to_ascii_lowercase()).collect() }
    }

    /// Returns the origin that links of this site begin with.
    pub fn origin(&self) -> &str {
        self.origins.first().map_or("", String::as_str)
    }

    /// Checks the destination of a request, and the page that sent it.
    pub fn check(&self, request: &RequestFacts<'_>) -> Result<(), Problem> {
        if !request.host.is_some_and(|host| self.has_host(host)) {
            return Err(refusal("unknown-host", "This address does not belong to this site."));
        }
        let is_own_page = match (request.origin, request.fetch_site) {
            (Some(origin), _) => self.has_origin(origin),
            // Older browsers and programs send neither; a program has no visitor's cookies.
            (None, Some(site)) => !request.is_write || site == "same-origin" || site == "none",
            (None, None) => true,
        };
        if !is_own_page {
            return Err(refusal("foreign-origin", "Another site's page sent this request."));
        }
        if request.is_write && !request.content_type.is_some_and(is_json) {
            let detail = "Send it as application/json.";
            return Err(Problem::new(415, "json-only", "Only JSON is accepted", detail));
        }
        Ok(())
    }

    fn has_origin(&self, origin: &str) -> bool {
        self.origins.iter().any(|own| own.eq_ignore_ascii_case(origin))
    }

    fn has_host(&self, host: &str) -> bool {
        let hosts = self.origins.iter().filter_map(|origin| origin.split_once("://"));
        hosts.into_iter().any(|(_, own)| own.eq_ignore_ascii_case(host))
    }

    fn is_https(&self) -> bool {
        self.origin().starts_with("https://")
    }

    /// Returns a `Set-Cookie` value that no script can read and no other site's form sends.
    pub fn set_cookie(&self, name: &str, value: &str, seconds: u32) -> String {
        let (name, secure) =
            (self.cookie_name(name), if self.is_https() { "; Secure" } else { "" });
        format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}")
    }

    /// Finds a cookie in the values of a request's `Cookie` headers.
    pub fn cookie<'a>(
        &self,
        headers: impl Iterator<Item = &'a str>,
        name: &str,
    ) -> Option<&'a str> {
        let name = self.cookie_name(name);
        headers
            .flat_map(|line| line.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }

    /// With the prefix, browsers accept the cookie from this very host over https only, so that
    /// neither a neighboring subdomain nor plain http can plant one.
    fn cookie_name(&self, name: &str) -> String {
        if self.is_https() { format!("__Host-{name}") } else { name.to_owned() }
    }
}

fn refusal(code: &'static str, detail: &str) -> Problem {
    Problem::new(403, code, "Refused", detail)
}

fn is_json(content_type: &str) -> bool {
    let media_type = content_type.split(';').next().unwrap_or_default();
    media_type.trim().eq_ignore_ascii_case("application/json")
}

/// Waits for Ctrl-C or SIGTERM.
pub async fn stop_signal() {
    let interrupt = async { drop(tokio::signal::ctrl_c().await) };
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                () = interrupt => {}
                _ = terminate.recv() => {}
            }
            return;
        }
    }
    interrupt.await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn post<'a>(host: &'a str, origin: Option<&'a str>, site: Option<&'a str>) -> RequestFacts<'a> {
        RequestFacts {
            is_write: true,
            host: Some(host),
            origin,
            fetch_site: site,
            content_type: Some("application/json; charset=utf-8"),
        }
    }

    #[test]
    fn only_the_sites_own_pages_may_post() {
        let site = Site::new(3000, Some("https://Chat.example".to_owned()));
        for (host, origin, fetch_site) in [
            ("127.0.0.1:3000", Some("http://127.0.0.1:3000"), None),
            ("localhost:3000", Some("http://localhost:3000"), Some("same-origin")),
            ("chat.example", Some("https://chat.example"), None),
            ("CHAT.example", None, Some("same-origin")),
            ("chat.example", None, None),
        ] {
            assert!(site.check(&post(host, origin, fetch_site)).is_ok(), "{host} {origin:?}");
        }
        for (host, origin, fetch_site) in [
            ("evil.example", None, None),
            ("evil.example:3000", Some("http://evil.example:3000"), Some("same-origin")),
            ("127.0.0.1", None, None),
            ("127.0.0.1:3000", Some("http://evil.example"), None),
            ("127.0.0.1:3000", Some("http://127.0.0.1:3001"), Some("same-site")),
            ("127.0.0.1:3000", Some("null"), None),
            ("chat.example", Some("http://chat.example"), None),
            ("chat.example", None, Some("cross-site")),
            ("chat.example", None, Some("same-site")),
        ] {
            let refused = site.check(&post(host, origin, fetch_site)).unwrap_err();
            assert_eq!(refused.status(), 403, "{host} {origin:?} {fetch_site:?}");
        }
        let own = "http://127.0.0.1:3000";
        for content_type in [None, Some("text/plain"), Some("application/x-www-form-urlencoded")] {
            let form = RequestFacts { content_type, ..post("127.0.0.1:3000", Some(own), None) };
            assert_eq!(site.check(&form).unwrap_err().status(), 415, "{content_type:?}");
        }
        let no_host = RequestFacts { host: None, ..post("", None, None) };
        assert_eq!(site.check(&no_host).unwrap_err().status(), 403);
    }

    #[test]
    fn cookies_over_https_cannot_be_planted() {
        let (public, local) =
            (Site::new(1, Some("https://a.example".to_owned())), Site::new(1, None));
        let cookie = public.set_cookie("user", "1", 9);
        assert!(cookie.starts_with("__Host-user=1; Path=/;") && cookie.ends_with("; Secure"));
        assert_eq!(public.cookie(["user=2; __Host-user=1"].into_iter(), "user"), Some("1"));
        assert_eq!(local.cookie(["a=b", "user=2"].into_iter(), "user"), Some("2"));
        assert!(local.set_cookie("user", "1", 9).contains("HttpOnly; SameSite=Lax"));
    }
}
