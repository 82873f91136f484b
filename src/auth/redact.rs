//! Redacts a token endpoint's answers: keeps OAuth's own fields, and removes every secret that was
//! sent.

use base64::Engine;
use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};

/// The error codes of RFC 6749, which are never redacted.
const CODES: [&str; 9] = [
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
    "access_denied",
    "server_error",
    "temporarily_unavailable",
];
const FIELDS: [&str; 3] = ["error", "error_description", "error_uri"];
const REDACTED: &str = "[redacted]";
/// The number of percent-encoding layers that are decoded in search of a secret.
const MAX_LAYERS: usize = 4;

/// Returns the error fields of an answer as JSON, or `None` for an answer without them, such as an
/// HTML page.
pub(super) fn reduced(body: &[u8], secrets: &[SecretString]) -> Option<Bytes> {
    let Ok(Value::Object(answer)) = crate::wire::json::from_body::<Value>(body) else {
        return None;
    };
    let fields: Map<_, _> = FIELDS
        .iter()
        .filter_map(|field| Some((*field, answer.get(*field)?.as_str()?)))
        .map(|(field, text)| (field.to_owned(), Value::from(redacted(text, secrets))))
        .collect();
    (!fields.is_empty()).then(|| Value::Object(fields).to_string().into())
}

/// Replaces a text that holds a secret in any encoding.
pub(super) fn redacted(text: &str, secrets: &[SecretString]) -> String {
    if !CODES.contains(&text)
        && secrets.iter().any(|secret| contains_secret(text, secret.expose_secret()))
    {
        return REDACTED.to_owned();
    }
    text.to_owned()
}

fn contains_secret(text: &str, secret: &str) -> bool {
    let secret = secret.trim();
    if secret.is_empty() {
        return false;
    }
    let mut layer = text.to_owned();
    for _ in 0..MAX_LAYERS {
        if contains_encoded(&layer, secret) {
            return true;
        }
        // `+` stands for a space in a form only.
        if layer.contains('+') && percent_decoded(&layer.replace('+', " ")).contains(secret) {
            return true;
        }
        let decoded = percent_decoded(&layer);
        if decoded == layer {
            return false;
        }
        layer = decoded;
    }
    // The text has more layers than any server writes: it is treated as a secret.
    true
}

fn contains_encoded(text: &str, secret: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    text.contains(secret)
        || lower.contains(&hex)
        || (0..3).any(|shift| {
            let [standard, url_safe] = base64_cores(secret, shift);
            standard.len() >= 6 && (text.contains(&standard) || text.contains(&url_safe))
        })
}

/// Returns the characters of a base64 text that depend on the secret only, where `shift` bytes
/// precede it.
fn base64_cores(secret: &str, shift: usize) -> [String; 2] {
    let mut bytes = vec![0; shift];
    bytes.extend_from_slice(secret.as_bytes());
    // The first characters also encode the preceding bytes, the last one the following bytes.
    let first = (shift * 8).div_ceil(6);
    let end = bytes.len() * 8 / 6;
    [BASE64_STANDARD_NO_PAD.encode(&bytes), BASE64_URL_SAFE_NO_PAD.encode(&bytes)]
        .map(|encoded| encoded.get(first..end).unwrap_or_default().to_owned())
}

fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let hex = |offset| Some(char::from(*bytes.get(at + offset)?).to_digit(16)? as u8);
        if *byte == b'%'
            && let (Some(high), Some(low)) = (hex(1), hex(2))
        {
            decoded.push(high << 4 | low);
            at += 3;
        } else {
            decoded.push(*byte);
            at += 1;
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "s3cret+/ =&é";

    fn is_redacted(text: &str) -> bool {
        redacted(text, &[SECRET.to_owned().into()]) == REDACTED
    }

    #[test]
    fn a_secret_is_found_in_every_encoding() {
        let percent = "s3cret%2B%2F%20%3D%26%C3%A9";
        for text in [
            format!("failed: {SECRET}!"),
            format!("POST /token?refresh_token={percent}"),
            percent.to_lowercase(),
            "a=s3cret%2B%2F+%3D%26%C3%A9&b".to_owned(),
            percent.replace('%', "%25"),
            percent.replace('%', "%2525"),
        ] {
            assert!(is_redacted(&text), "{text}");
        }
        for prefix in ["", "i", "id", "id:", "client-id:"] {
            let pair = format!("{prefix}{SECRET}{prefix}");
            assert!(is_redacted(&format!("Basic {}", BASE64_STANDARD_NO_PAD.encode(&pair))));
            assert!(is_redacted(&BASE64_URL_SAFE_NO_PAD.encode(&pair)), "{prefix}");
        }
        for harmless in ["invalid_grant", "the token is unknown", "50% of", ""] {
            assert!(!is_redacted(harmless), "{harmless}");
        }
        assert_eq!(redacted("invalid_grant", &["grant".to_owned().into()]), "invalid_grant");
    }

    #[test]
    fn only_oauth_fields_are_kept() {
        let body =
            br#"{"error":"invalid_grant","error_description":"no","path":"/t?x=y","trace":[1]}"#;
        let kept = reduced(body, &[]).unwrap();
        assert_eq!(&kept[..], br#"{"error":"invalid_grant","error_description":"no"}"#);
        assert!(reduced(b"<html>", &[]).is_none() && reduced(b"{}", &[]).is_none());
    }
}
