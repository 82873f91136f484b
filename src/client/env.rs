//! A client from environment variables.

use std::env;
use std::time::Duration;

use super::Client;
use crate::auth::token::TokenInfo;
use crate::config::Config;
use crate::error::{Error, Result};

/// Construction from environment variables.
impl Client {
    /// Creates a client from environment variables. A `.env` file is not read.
    ///
    /// `PAYMAN_CLIENT_ID` and `PAYMAN_CLIENT_SECRET`; optionally `PAYMAN_ENVIRONMENT` (`live` or
    /// `test`) or `PAYMAN_BASE_URL`, `PAYMAN_SESSION_ID`, `PAYMAN_CLIENT_NAME`. With
    /// `PAYMAN_ACCESS_TOKEN` and `PAYMAN_EXPIRES_IN` (seconds), or `PAYMAN_REFRESH_TOKEN`, or both,
    /// it is a client [with that token](Self::with_token).
    ///
    /// ```
    /// use payman_sdk::Client;
    ///
    /// match Client::from_env() {
    ///     Ok(client) => println!("{}", client.session_id()),
    ///     Err(error) => eprintln!("{error}"), // names the variables that are missing
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput), naming the variables that are missing or
    /// not understood.
    pub fn from_env() -> Result<Self> {
        Self::from_vars(|name| env::var(name).ok())
    }

    fn from_vars(get: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let var = |name: &str| get(name).filter(|value| !value.trim().is_empty());
        let token = token_from_vars(&var)?;
        let secret = var("PAYMAN_CLIENT_SECRET");
        let mut missing = Vec::new();
        let client_id = var("PAYMAN_CLIENT_ID");
        if client_id.is_none() {
            missing.push("PAYMAN_CLIENT_ID");
        }
        if secret.is_none() && token.is_none() {
            missing.push("PAYMAN_CLIENT_SECRET");
        }
        let (Some(client_id), true) = (client_id, missing.is_empty()) else {
            return Err(Error::invalid_input(format!(
                "missing in the environment: {}",
                missing.join(", ")
            )));
        };
        let mut config = Config::new(client_id);
        if let Some(secret) = secret {
            config = config.client_secret(secret);
        }
        if let Some(environment) = var("PAYMAN_ENVIRONMENT") {
            config = config.environment(environment.parse()?);
        }
        if let Some(url) = var("PAYMAN_BASE_URL") {
            config = config.base_url(url);
        }
        if let Some(session) = var("PAYMAN_SESSION_ID") {
            config = config.session_id(session);
        }
        if let Some(name) = var("PAYMAN_CLIENT_NAME") {
            config = config.name(name);
        }
        match token {
            Some(token) => Self::with_token(config, token),
            None => Self::with_credentials(config),
        }
    }
}

fn token_from_vars(var: &impl Fn(&str) -> Option<String>) -> Result<Option<TokenInfo>> {
    let refresh = var("PAYMAN_REFRESH_TOKEN");
    let Some(access) = var("PAYMAN_ACCESS_TOKEN") else {
        return Ok(refresh.map(TokenInfo::refresh_only));
    };
    let Some(lifetime) = var("PAYMAN_EXPIRES_IN") else {
        return Err(Error::invalid_input(
            "PAYMAN_ACCESS_TOKEN is set without PAYMAN_EXPIRES_IN, its lifetime in seconds",
        ));
    };
    let seconds = lifetime.trim().parse().map_err(|error| {
        Error::invalid_input("PAYMAN_EXPIRES_IN is not a number of seconds").with_source(error)
    })?;
    let token = TokenInfo::access(access, Duration::from_secs(seconds));
    Ok(Some(match refresh {
        Some(refresh) => token.refresh(refresh),
        None => token,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(vars: &[(&str, &str)]) -> Result<Client> {
        Client::from_vars(|name| {
            vars.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn missing_variables_are_named() {
        let text = from(&[]).unwrap_err().to_string();
        assert!(
            text.contains("PAYMAN_CLIENT_ID") && text.contains("PAYMAN_CLIENT_SECRET"),
            "{text}"
        );
        let text = from(&[("PAYMAN_CLIENT_ID", "id"), ("PAYMAN_CLIENT_SECRET", " ")])
            .unwrap_err()
            .to_string();
        assert!(!text.contains("CLIENT_ID") && text.contains("PAYMAN_CLIENT_SECRET"), "{text}");
        let text = from(&[("PAYMAN_CLIENT_ID", "id"), ("PAYMAN_ACCESS_TOKEN", "a")])
            .unwrap_err()
            .to_string();
        assert!(text.contains("PAYMAN_EXPIRES_IN"), "{text}");
    }

    #[test]
    fn every_variable_counts() -> Result<()> {
        let client = from(&[
            ("PAYMAN_CLIENT_ID", "id"),
            ("PAYMAN_REFRESH_TOKEN", "r"),
            ("PAYMAN_BASE_URL", "http://localhost:1"),
            ("PAYMAN_SESSION_ID", "ses-1"),
            ("PAYMAN_CLIENT_NAME", "me"),
        ])?;
        assert_eq!(client.session_id(), "ses-1");
        assert_eq!(client.name(), Some("me"));
        assert!(client.refresh_token().is_some());
        assert!(
            from(&[
                ("PAYMAN_CLIENT_ID", "id"),
                ("PAYMAN_CLIENT_SECRET", "s"),
                ("PAYMAN_ENVIRONMENT", "moon")
            ])
            .is_err()
        );
        Ok(())
    }
}
