//! The platform's environments, and a checked base URL.

use url::{Host, Url};

use crate::error::{Error, Result};

/// The host that a client connects to. The last of this and
/// [`Config::base_url`](crate::Config::base_url) counts.
///
/// **Test money is chosen by the credentials, not by the host**: client ids that begin with
/// `pm-test-` work on the live host, with test wallets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Environment {
    /// `https://agent.payman.ai`: real money, or test money with test credentials.
    #[default]
    Live,
    /// `https://agent.payman.dev`: the company's own development system.
    Test,
}

impl Environment {
    /// Returns the base URL of the platform's API.
    #[must_use]
    pub fn base_url(self) -> &'static str {
        match self {
            Self::Live => "https://agent.payman.ai",
            Self::Test => "https://agent.payman.dev",
        }
    }
}

impl std::str::FromStr for Environment {
    type Err = Error;

    /// Reads `live` or `test`, in any case.
    fn from_str(text: &str) -> Result<Self> {
        match text.trim().to_ascii_lowercase().as_str() {
            "live" => Ok(Self::Live),
            "test" => Ok(Self::Test),
            _ => Err(Error::invalid_input("the environment is neither \"live\" nor \"test\"")),
        }
    }
}

/// A checked base URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BaseUrl {
    url: Url,
    plain_loopback: bool,
}

impl BaseUrl {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let url = Url::parse(text.trim()).map_err(|error| {
            Error::invalid_input("the base URL is not a URL; it looks like https://agent.payman.ai")
                .with_source(error)
        })?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Error::invalid_input(
                "the base URL holds user info; credentials belong in Config",
            ));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(Error::invalid_input(
                "the base URL holds a query or a fragment; leave them out",
            ));
        }
        let plain_loopback = match url.scheme() {
            "https" if url.has_host() => false,
            "http" if is_loopback(url.host()) => true,
            _ => {
                return Err(Error::invalid_input(
                    "the base URL is neither https nor loopback; tokens do not travel in the clear",
                ));
            }
        };
        Ok(Self { url, plain_loopback })
    }

    /// Returns true for plain HTTP on this machine: no proxy, no certificates.
    pub(crate) fn is_plain_loopback(&self) -> bool {
        self.plain_loopback
    }

    /// Returns the URL of a path of [`crate::wire::path`].
    pub(crate) fn join(&self, path: &str) -> Url {
        let mut url = self.url.clone();
        url.set_path(&format!("{}{path}", self.url.path().trim_end_matches('/')));
        url
    }

    pub(crate) fn as_str(&self) -> &str {
        self.url.as_str().trim_end_matches('/')
    }
}

fn is_loopback(host: Option<Host<&str>>) -> bool {
    match host {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_and_loopback_are_bases() {
        for good in [
            "https://agent.payman.ai",
            "https://[::2]/x/",
            "http://127.0.0.1:8080",
            "http://127.9.9.9",
            "http://[::1]:1/",
            "http://localhost:3000",
        ] {
            assert!(BaseUrl::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "agent.payman.ai",
            "http://agent.payman.ai",
            "http://localhost.evil.test",
            "http://127.0.0.1.evil.test",
            "https://user@agent.payman.ai",
            "https://:pw@agent.payman.ai",
            "https://agent.payman.ai?x=1",
            "https://agent.payman.ai#x",
            "ftp://localhost",
            "file:///etc/passwd",
        ] {
            assert!(BaseUrl::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_are_joined_below_the_base() -> Result<()> {
        assert_eq!(
            BaseUrl::parse("http://localhost:1/v1/")?.join("/api/x").as_str(),
            "http://localhost:1/v1/api/x"
        );
        assert_eq!(
            BaseUrl::parse("https://a.test")?.join("/api/x").as_str(),
            "https://a.test/api/x"
        );
        Ok(())
    }
}
