//! The replies of the token endpoint.

use serde::Deserialize;

use super::lenient;

/// The reply to a token request, in the platform's spelling or in that of RFC 6749.
///
/// Holds secrets in plain strings, which the caller moves into a `SecretString` at once.
#[derive(Deserialize)]
pub(crate) struct TokenReply {
    #[serde(default, rename = "accessToken", deserialize_with = "lenient::text")]
    access_camel: Option<String>,
    #[serde(default, rename = "access_token", deserialize_with = "lenient::text")]
    access_snake: Option<String>,
    #[serde(default, rename = "expiresIn", deserialize_with = "lenient::integer")]
    expires_camel: Option<i64>,
    #[serde(default, rename = "expires_in", deserialize_with = "lenient::integer")]
    expires_snake: Option<i64>,
    #[serde(default, rename = "refreshToken", deserialize_with = "lenient::text")]
    refresh_camel: Option<String>,
    #[serde(default, rename = "refresh_token", deserialize_with = "lenient::text")]
    refresh_snake: Option<String>,
    #[serde(default, deserialize_with = "lenient::text")]
    pub(crate) scope: Option<String>,
}

impl TokenReply {
    pub(crate) fn take_access_token(&mut self) -> Option<String> {
        not_blank(self.access_camel.take()).or_else(|| not_blank(self.access_snake.take()))
    }

    /// Takes the refresh token; `None` for a blank one, so that the old one is kept.
    pub(crate) fn take_refresh_token(&mut self) -> Option<String> {
        not_blank(self.refresh_camel.take()).or_else(|| not_blank(self.refresh_snake.take()))
    }

    /// Returns the lifetime in seconds, counted from the start of the request.
    pub(crate) fn expires_in(&self) -> Option<i64> {
        self.expires_camel.or(self.expires_snake)
    }
}

fn not_blank(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.trim().is_empty())
}

/// The reply to a token request that was refused (RFC 6749, section 5.2).
#[derive(Debug, Deserialize)]
pub(crate) struct TokenRefusal {
    #[serde(default, deserialize_with = "lenient::text")]
    pub(crate) error: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_are_read() {
        let cases = [
            r#"{"accessToken":"a","tokenType":"Bearer","expiresIn":600,"scope":"s","refreshToken":"r"}"#,
            r#"{"access_token":"a","expires_in":"600","refresh_token":"r","scope":"s","new":[]}"#,
            r#"{"access_token":"a","accessToken":"a","expires_in":600,"expiresIn":600.0,"refreshToken":"r","scope":"s"}"#,
        ];
        for json in cases {
            let mut reply: TokenReply = serde_json::from_str(json).unwrap();
            assert_eq!(reply.expires_in(), Some(600));
            assert_eq!(reply.scope.as_deref(), Some("s"));
            assert_eq!(reply.take_access_token().as_deref(), Some("a"));
            assert_eq!(reply.take_refresh_token().as_deref(), Some("r"));
        }
    }

    #[test]
    fn blank_and_null_are_absent() {
        let mut reply: TokenReply =
            serde_json::from_str(r#"{"accessToken":" ","expiresIn":null,"refreshToken":""}"#)
                .unwrap();
        assert_eq!(reply.take_access_token(), None);
        assert_eq!(reply.take_refresh_token(), None);
        assert_eq!(reply.expires_in(), None);
    }
}
