//! The properties of an error: predicates for callers, and the details that it carries.

use std::borrow::Cow;
use std::time::Duration;

use super::{Error, ErrorKind, Outcome, RedirectFailure};
use crate::ids::TaskId;
use crate::wire::json;
use crate::wire::jsonrpc::RpcError;

impl Error {
    /// Returns the kind of the error.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # use payman_sdk::{Client, Config, RetryPolicy};
    /// # let config = Config::new("id").client_secret("secret").retry(RetryPolicy::none());
    /// # let client = Client::with_credentials(config.base_url("http://127.0.0.1:1"))?;
    /// let error = client.ask("Pay Tyllen $50").await.unwrap_err(); // nothing listens there
    /// assert_eq!(error.kind(), payman_sdk::ErrorKind::Connect);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns true when the ask may have been done, wholly or in part: the money may have moved.
    ///
    /// Do not ask again. Store [`task_id`](Self::task_id), look the task up with
    /// [`Client::get_task`](crate::Client::get_task) later, and if the platform still does not know
    /// it, check the wallet's transactions before anything is repeated.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # use payman_sdk::{Client, Config, RetryPolicy};
    /// # let config = Config::new("id").client_secret("secret").retry(RetryPolicy::none());
    /// # let client = Client::with_credentials(config.base_url("http://127.0.0.1:1"))?;
    /// let error = client.ask("Pay Tyllen $50").await.unwrap_err(); // nothing listens there
    /// assert!(!error.is_outcome_unknown()); // no connection: it was not done
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_outcome_unknown(&self) -> bool {
        self.0.outcome == Outcome::Unknown
    }

    /// Returns true only where it is certain that nothing was done: the ask was never sent, or it
    /// was refused.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # use payman_sdk::{Client, Config, RetryPolicy};
    /// # let config = Config::new("id").client_secret("secret").retry(RetryPolicy::none());
    /// # let client = Client::with_credentials(config.base_url("http://127.0.0.1:1"))?;
    /// let error = client.ask("Pay Tyllen $50").await.unwrap_err(); // nothing listens there
    /// assert!(error.is_safe_to_ask_again());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_safe_to_ask_again(&self) -> bool {
        self.0.outcome == Outcome::NotDone
    }

    pub(crate) fn outcome(&self) -> Outcome {
        self.0.outcome
    }

    /// Returns true when the user has to connect again: the refresh token was refused, or there is
    /// none.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # use payman_sdk::{Client, Config, RetryPolicy};
    /// # let config = Config::new("id").client_secret("secret").retry(RetryPolicy::none());
    /// # let client = Client::with_credentials(config.base_url("http://127.0.0.1:1"))?;
    /// let error = client.ask("Pay Tyllen $50").await.unwrap_err(); // nothing listens there
    /// if error.is_reauthorization_required() {
    ///     println!("connect again");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_reauthorization_required(&self) -> bool {
        self.kind() == ErrorKind::ReauthorizationRequired
    }

    /// Returns true when the server does not accept the token or the credentials, or the user has
    /// to connect again.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// # use payman_sdk::emulator::{Fault, Operation};
    /// payman.fault(Fault::status(403).on(Operation::Send));
    /// let error = client.ask("Pay Tyllen $50").await.unwrap_err();
    /// assert!(error.is_auth());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_auth(&self) -> bool {
        matches!(self.kind(), ErrorKind::Auth | ErrorKind::ReauthorizationRequired)
    }

    /// Returns true when a time limit ran out.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # use payman_sdk::{Client, Config, RetryPolicy};
    /// # let config = Config::new("id").client_secret("secret").retry(RetryPolicy::none());
    /// # let client = Client::with_credentials(config.base_url("http://127.0.0.1:1"))?;
    /// let error = client.ask("Pay Tyllen $50").await.unwrap_err(); // nothing listens there
    /// assert!(!error.is_timeout());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        self.kind() == ErrorKind::Timeout
    }

    /// Returns true when no connection could be made.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # use payman_sdk::{Client, Config, RetryPolicy};
    /// # let config = Config::new("id").client_secret("secret").retry(RetryPolicy::none());
    /// # let client = Client::with_credentials(config.base_url("http://127.0.0.1:1"))?;
    /// let error = client.ask("Pay Tyllen $50").await.unwrap_err(); // nothing listens there
    /// assert!(error.is_connect());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_connect(&self) -> bool {
        self.kind() == ErrorKind::Connect
    }

    /// Returns true when an answer or a stream was cut before its end.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # use payman_sdk::{Client, Config, RetryPolicy};
    /// # let config = Config::new("id").client_secret("secret").retry(RetryPolicy::none());
    /// # let client = Client::with_credentials(config.base_url("http://127.0.0.1:1"))?;
    /// let error = client.ask("Pay Tyllen $50").await.unwrap_err(); // nothing listens there
    /// assert!(!error.is_interrupted());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        self.kind() == ErrorKind::Interrupted
    }

    /// Returns true when the server asks the client to wait and try again.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # use payman_sdk::{Client, Config, RetryPolicy};
    /// # let config = Config::new("id").client_secret("secret").retry(RetryPolicy::none());
    /// # let client = Client::with_credentials(config.base_url("http://127.0.0.1:1"))?;
    /// let error = client.ask("Pay Tyllen $50").await.unwrap_err(); // nothing listens there
    /// assert!(!error.is_rate_limited());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_rate_limited(&self) -> bool {
        self.kind() == ErrorKind::RateLimited
    }

    /// Returns true when the server does not offer the operation.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # use payman_sdk::{Client, Config, RetryPolicy};
    /// # let config = Config::new("id").client_secret("secret").retry(RetryPolicy::none());
    /// # let client = Client::with_credentials(config.base_url("http://127.0.0.1:1"))?;
    /// let error = client.ask("Pay Tyllen $50").await.unwrap_err(); // nothing listens there
    /// assert!(!error.is_unsupported());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        self.kind() == ErrorKind::Unsupported
    }

    /// Returns true for bad input, refused before anything was sent.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// let error = client.ask("   ").await.unwrap_err();
    /// assert!(error.is_invalid_input());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_invalid_input(&self) -> bool {
        self.kind() == ErrorKind::InvalidInput
    }

    /// Returns the HTTP status of an answer that is an error.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// # use payman_sdk::emulator::{Fault, Operation};
    /// payman.fault(Fault::status(403).on(Operation::Send));
    /// let error = client.ask("Pay Tyllen $50").await.unwrap_err();
    /// assert_eq!(error.status(), Some(403));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.0.status
    }

    /// Returns the body of the answer, cut at 64 KiB unless set otherwise. It is the server's text
    /// and may hold anything.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// # use payman_sdk::emulator::{Fault, Operation};
    /// payman.fault(Fault::status(403).on(Operation::Send));
    /// let error = client.ask("Pay Tyllen $50").await.unwrap_err();
    /// println!("{}", error.body().unwrap_or_default());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn body(&self) -> Option<Cow<'_, str>> {
        self.0.body.as_deref().map(String::from_utf8_lossy)
    }

    /// Returns the body as JSON, where it is JSON.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// # use payman_sdk::emulator::{Fault, Operation};
    /// payman.fault(Fault::status(403).on(Operation::Send));
    /// let error = client.ask("Pay Tyllen $50").await.unwrap_err();
    /// println!("{:?}", error.body_json());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn body_json(&self) -> Option<serde_json::Value> {
        json::from_body(self.0.body.as_deref()?).ok()
    }

    /// Returns the JSON-RPC error, whatever the HTTP status was.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// let error = client.get_task("tsk-unknown").await.unwrap_err();
    /// println!("{:?}", error.rpc_error().map(|rpc| &rpc.message));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn rpc_error(&self) -> Option<&RpcError> {
        self.0.rpc.as_ref()
    }

    /// Returns the JSON-RPC error's code.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # let payman = payman_sdk::Emulator::start().await?;
    /// # let client = payman.client();
    /// let error = client.get_task("tsk-unknown").await.unwrap_err();
    /// assert_eq!(error.rpc_code(), Some(-32001));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn rpc_code(&self) -> Option<i64> {
        self.rpc_error()?.code
    }

    /// Returns the `errorCode` of an error body `{status, timestamp, errorCode, message}`, such as
    /// `insufficient_funds`.
    ///
    /// ```
    /// # async fn f(client: payman_sdk::Client) {
    /// if let Err(error) = client.ask("Pay Tyllen $50").await {
    ///     println!("{}", error.error_code().unwrap_or("no code"));
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn error_code(&self) -> Option<&str> {
        self.0.error_code.as_deref()
    }

    /// Returns the time that the server asks the client to wait.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # use payman_sdk::{Client, Config, RetryPolicy};
    /// # let config = Config::new("id").client_secret("secret").retry(RetryPolicy::none());
    /// # let client = Client::with_credentials(config.base_url("http://127.0.0.1:1"))?;
    /// let error = client.ask("Pay Tyllen $50").await.unwrap_err(); // nothing listens there
    /// assert_eq!(error.retry_after(), None);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Returns the id of the task that the error belongs to.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> payman_sdk::Result<()> {
    /// # use payman_sdk::{Client, Config, RetryPolicy};
    /// # let config = Config::new("id").client_secret("secret").retry(RetryPolicy::none());
    /// # let client = Client::with_credentials(config.base_url("http://127.0.0.1:1"))?;
    /// let error = client.ask("Pay Tyllen $50").await.unwrap_err(); // nothing listens there
    /// assert!(error.task_id().is_some());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn task_id(&self) -> Option<&TaskId> {
        self.0.task_id.as_ref()
    }

    /// Returns the reason that the redirect back from the consent page has no code, for an error of
    /// such a redirect.
    pub(crate) fn redirect_failure(&self) -> Option<RedirectFailure> {
        self.0.redirect
    }
}
