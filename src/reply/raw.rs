//! The raw reply: a JSON-RPC response as the server wrote it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::value::RawValue;

use crate::error::{Error, Result};

/// A JSON-RPC response, exactly as the server wrote it.
#[derive(Clone)]
pub struct RawReply {
    json: Box<RawValue>,
}

#[derive(Deserialize)]
struct RawResult<'a> {
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
}

impl RawReply {
    /// Reads a response, without a byte-order mark; `None` where the bytes are not JSON.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
        Some(Self { json: serde_json::from_slice(bytes).ok()? })
    }

    /// Returns the whole response: no number, order or field is changed.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// let raw = client.ask_raw("List all wallets").await?;
    /// assert!(raw.json().get().starts_with('{'));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn json(&self) -> &RawValue {
        &self.json
    }

    /// Returns the response's `result`, unchanged; `None` if it has none.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// let raw = client.ask_raw("List all wallets").await?;
    /// assert!(raw.result().is_some());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn result(&self) -> Option<&RawValue> {
        serde_json::from_str::<RawResult<'_>>(self.json.get()).ok()?.result
    }

    /// Returns the whole response as text.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// println!("{}", client.ask_raw("List all wallets").await?.as_str());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.json.get()
    }
}

/// Prints only the size: an answer may be long and private, and does not belong in logs.
impl fmt::Debug for RawReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawReply").field("bytes", &self.json.get().len()).finish_non_exhaustive()
    }
}

impl fmt::Display for RawReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.json.get())
    }
}

/// Writes the JSON itself; in formats that are not human-readable, its text.
impl Serialize for RawReply {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return self.json.serialize(serializer);
        }
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for RawReply {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            return Box::<RawValue>::deserialize(deserializer).map(|json| Self { json });
        }
        let json = String::deserialize(deserializer)?;
        RawValue::from_string(json).map(|json| Self { json }).map_err(de::Error::custom)
    }
}

/// Parses JSON, for fixtures and stored replies.
impl FromStr for RawReply {
    type Err = Error;

    fn from_str(json: &str) -> Result<Self> {
        Self::read(json.as_bytes()).ok_or_else(|| Error::invalid_input("the raw reply is not JSON"))
    }
}
