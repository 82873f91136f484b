//! One HTTP exchange: its set-up, its limits, and the proof that its failure gives.

pub(crate) mod backoff;
#[cfg(any(
    feature = "redis-rustls",
    all(feature = "rustls-no-provider", not(any(feature = "rustls", feature = "native-tls")))
))]
pub(crate) mod crypto;
mod handover;
pub(crate) mod sse;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use bytes::{Bytes, BytesMut};
use reqwest::header::{HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{ClientBuilder, Response, redirect};
use tokio::time::{Instant, timeout_at};

use crate::error::{Error, Result, Source};
use backoff::RetryBudget;
use handover::{Handover, TrackedBody};

/// Adds a caller's settings to the HTTP client, before the SDK's own are applied.
pub(crate) type ConfigureHttp =
    Arc<dyn Fn(reqwest::ClientBuilder) -> reqwest::ClientBuilder + Send + Sync>;

/// The settings of an HTTP client.
#[derive(Clone)]
pub(crate) struct HttpSettings {
    /// True for plain HTTP on loopback only; false for HTTPS only.
    pub(crate) plain_loopback: bool,
    pub(crate) connect_timeout: Duration,
    pub(crate) configure: Option<ConfigureHttp>,
}

/// The connection pool, and the retry budget of all clients that share it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Http(Arc<Shared>);

struct Shared {
    pool: ArcSwap<Pool>,
    settings: HttpSettings,
    budget: RetryBudget,
}

/// One generation of connections.
struct Pool {
    client: reqwest::Client,
    created: Instant,
}

const USER_AGENT: &str = concat!("payman-sdk-rust/", env!("CARGO_PKG_VERSION"));
/// The time after which an idle connection is closed. A server's own limit is rarely shorter. If a
/// server closes a connection while a request is sent, the outcome of the request is unknown.
const POOL_IDLE: Duration = Duration::from_secs(30);
/// The loss of an HTTP/2 connection's peer is detected within the sum of both.
const H2_PING_INTERVAL: Duration = Duration::from_secs(10);
const H2_PING_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_HEADERS: usize = 128;
const MAX_HEADER_BYTES: u32 = 64 * 1024;
/// The window is small for a stream and large for the connection, so that slow readers cannot
/// starve others.
const H2_STREAM_WINDOW: u32 = 128 * 1024;
const H2_CONNECTION_WINDOW: u32 = 1 << 30;
/// The upper bound of `Retry-After`. It also prevents overflow of points in time.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

impl Http {
    pub(crate) fn new(settings: HttpSettings) -> Result<Self> {
        let pool = ArcSwap::from_pointee(Pool::new(&settings)?);
        Ok(Self(Arc::new(Shared { pool, settings, budget: RetryBudget::default() })))
    }

    /// Returns true for a pool that speaks plain HTTP, and only to loopback.
    pub(crate) fn is_plain_loopback(&self) -> bool {
        self.0.settings.plain_loopback
    }

    pub(crate) fn budget(&self) -> &RetryBudget {
        &self.0.budget
    }

    /// Sends a request and waits for the head of the answer, without a time limit.
    pub(crate) async fn send(&self, request: reqwest::Request) -> Result<Response, Failure> {
        let sending = self.0.pool.load().client.execute(request);
        sending.await.map_err(Failure::of)
    }

    /// Sends a request with a body and waits for the head of the answer. A failure states whether
    /// the body was handed to a connection: without its body, the server cannot have acted on the
    /// request.
    pub(crate) async fn send_tracked(
        &self,
        mut request: reqwest::Request,
        body: Bytes,
        until: Instant,
    ) -> Result<Response, Failure> {
        let started = Instant::now();
        if until <= started {
            return Err(Failure::NotSent(NotSent::TimedOut));
        }
        let handover = Arc::new(Handover::default());
        *request.body_mut() = Some(TrackedBody::new(body, Arc::clone(&handover)).into());
        let sending = self.0.pool.load().client.execute(request);
        match timeout_at(until, sending).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(match Failure::of(error) {
                Failure::Lost(source) if handover.withdraw() => {
                    Failure::NotSent(NotSent::Closed(source))
                }
                failure => failure,
            }),
            Err(_) => {
                self.leave_pool_of(started);
                Err(if handover.withdraw() {
                    Failure::NotSent(NotSent::TimedOut)
                } else {
                    Failure::TimedOut
                })
            }
        }
    }

    /// Opens a new pool after a request or stream that began at `started` has timed out, unless the
    /// present pool is newer. The connection may be dead, and HTTP/2 would share it with every
    /// later request. Exchanges in progress keep their connections.
    pub(crate) fn leave_pool_of(&self, started: Instant) {
        let present = self.0.pool.load_full();
        if present.created > started {
            return;
        }
        // If that fails, the present pool remains in use. It was built from the same settings.
        if let Ok(pool) = Pool::new(&self.0.settings) {
            self.0.pool.compare_and_swap(&present, Arc::new(pool));
        }
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").field("budget", &self.0.budget).finish_non_exhaustive()
    }
}

impl Pool {
    fn new(settings: &HttpSettings) -> Result<Self> {
        let builder = ClientBuilder::new();
        let builder = match &settings.configure {
            Some(configure) => configure(builder),
            None => builder,
        };
        let mut builder = builder
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .user_agent(USER_AGENT)
            .connect_timeout(settings.connect_timeout)
            .pool_idle_timeout(POOL_IDLE)
            .http1_max_headers(MAX_HEADERS)
            .http2_max_header_list_size(MAX_HEADER_BYTES)
            .http2_adaptive_window(false)
            .http2_initial_stream_window_size(H2_STREAM_WINDOW)
            .http2_initial_connection_window_size(H2_CONNECTION_WINDOW)
            .http2_keep_alive_interval(H2_PING_INTERVAL)
            .http2_keep_alive_timeout(H2_PING_TIMEOUT)
            .http2_keep_alive_while_idle(true);
        if settings.plain_loopback {
            // No root certificates are loaded, so that plain HTTP works on a machine without any.
            builder = builder.no_proxy();
            #[cfg(any(feature = "rustls", feature = "native-tls", feature = "rustls-no-provider"))]
            {
                builder = builder.tls_certs_only([]);
            }
        } else {
            builder = builder.https_only(true);
        }
        // The builder would panic.
        #[cfg(all(
            feature = "rustls-no-provider",
            not(any(feature = "rustls", feature = "native-tls"))
        ))]
        if !crypto::has_crypto_provider() {
            return Err(Error::invalid_input(
                "no crypto provider of rustls is installed, which the feature rustls-no-provider \
                 needs",
            ));
        }
        let client = builder.build().map_err(|error| {
            Error::invalid_input("the HTTP client could not be set up")
                .with_source(error.without_url())
        })?;
        Ok(Self { client, created: Instant::now() })
    }
}

/// The failure of an exchange, and the proof that it gives about the request.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No connection could be opened: no byte of the request was sent.
    NotConnected { source: Source, timed_out: bool },
    /// No connection took the request's body.
    NotSent(NotSent),
    /// A byte may have been sent, and the answer is lost.
    Lost(Source),
    /// A byte may have been sent, and the time limit has passed.
    TimedOut,
    /// The answer is larger than the limit.
    TooLarge { limit: usize },
}

/// The reason that no connection took a request's body.
#[derive(Debug)]
pub(crate) enum NotSent {
    /// The time limit passed before a connection had capacity for it.
    TimedOut,
    /// The connection closed first.
    Closed(Source),
}

impl Failure {
    /// Converts an error, without its URL, which may hold a secret.
    pub(crate) fn of(error: reqwest::Error) -> Self {
        let error = error.without_url();
        if error.is_connect() {
            return Self::NotConnected { timed_out: error.is_timeout(), source: error.into() };
        }
        Self::Lost(error.into())
    }
}

/// Reads a body that may be at most `limit` bytes.
pub(crate) async fn read_body(
    response: &mut Response,
    limit: usize,
    until: Instant,
) -> Result<Bytes, Failure> {
    if response.content_length().is_some_and(|length| length > limit as u64) {
        return Err(Failure::TooLarge { limit });
    }
    let whole = async {
        let Some(first) = response.chunk().await.map_err(Failure::of)? else {
            return Ok(Bytes::new());
        };
        let Some(second) = within(limit, first.len(), response.chunk().await)? else {
            return Ok(first);
        };
        let mut body = BytesMut::with_capacity(2 * (first.len() + second.len()));
        body.extend_from_slice(&first);
        body.extend_from_slice(&second);
        while let Some(chunk) = within(limit, body.len(), response.chunk().await)? {
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    };
    timeout_at(until, whole).await.unwrap_or(Err(Failure::TimedOut))
}

fn within(
    limit: usize,
    so_far: usize,
    chunk: reqwest::Result<Option<Bytes>>,
) -> Result<Option<Bytes>, Failure> {
    let chunk = chunk.map_err(Failure::of)?;
    if so_far + chunk.as_ref().map_or(0, Bytes::len) > limit {
        return Err(Failure::TooLarge { limit });
    }
    Ok(chunk)
}

/// The body of an error, as far as it was received.
pub(crate) struct ErrorBody {
    pub(crate) bytes: Bytes,
    /// False if the body was cut off, exceeded the time limit, or is JSON over the size limit, so
    /// that its rest is unknown. True for a long page of HTML, whose rest has no relevant content.
    pub(crate) is_whole: bool,
}

fn may_be_json(body: &[u8]) -> bool {
    body.trim_ascii_start().first().is_none_or(|first| *first == b'{')
}

/// Reads the start of an error's body, up to the first failure.
pub(crate) async fn read_error_body(
    response: &mut Response,
    limit: usize,
    until: Instant,
) -> ErrorBody {
    let mut body = BytesMut::new();
    let start = async {
        loop {
            let chunk = match response.chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => return true,
                Err(_) => return false,
            };
            let room = limit - body.len();
            body.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
            if chunk.len() > room {
                return !may_be_json(&body);
            }
        }
    };
    let is_whole = timeout_at(until, start).await.unwrap_or(false);
    ErrorBody { bytes: body.freeze(), is_whole }
}

/// Returns true where a `Content-Type` has this media type, with any parameters.
pub(crate) fn is_media_type(value: &HeaderValue, wanted: &str) -> bool {
    let named = value.to_str().ok().and_then(|value| value.split(';').next());
    named.is_some_and(|named| named.trim().eq_ignore_ascii_case(wanted))
}

/// Returns the wait of `Retry-After` (RFC 9110, section 10.2.3): seconds or a date; at most a day.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if value.bytes().all(|byte| byte.is_ascii_digit()) && !value.is_empty() {
        Duration::from_secs(value.parse().unwrap_or(u64::MAX))
    } else {
        httpdate::parse_http_date(value).ok()?.duration_since(SystemTime::now()).unwrap_or_default()
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait_of(value: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, value.parse().unwrap());
        retry_after(&headers)
    }

    #[test]
    fn retry_after_is_read_as_seconds_or_date_and_clamped() {
        assert_eq!(wait_of("7"), Some(Duration::from_secs(7)));
        assert_eq!(wait_of("99999999999999999999999"), Some(MAX_RETRY_AFTER));
        assert_eq!(wait_of("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        let soon = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(60));
        assert!(
            wait_of(&soon).is_some_and(
                |wait| wait > Duration::from_secs(50) && wait <= Duration::from_secs(60)
            )
        );
        for odd in ["", "-1", "soon", "1.5"] {
            assert_eq!(wait_of(odd), None, "{odd}");
        }
    }
}
