//! An async SDK for the [Payman AI](https://payman.ai) platform, whose agent moves real money when
//! it is asked in plain words.
//!
//! ```
//! use payman_sdk::Emulator;
//!
//! #[tokio::main]
//! async fn main() -> payman_sdk::Result<()> {
//!     let payman = Emulator::start().await?; // play money; with an account: Client::from_env()?
//!     let client = payman.client();
//!     println!("{}", client.ask("How much money do I have in my wallet?").await?);
//!     Ok(())
//! }
//! ```
//!
//! * [`Client`] asks: [`ask`](Client::ask) returns the full [`Reply`],
//!   [`ask_stream`](Client::ask_stream) a stream of [`Event`]s. It is cheap to clone,
//!   and one client serves a whole backend.
//! * [`Config`] sets it up, [`Ask`] adds metadata, limits and an
//!   [idempotency key](Ask::idempotency_key) to what is asked.
//! * [`Error`] says whether an ask may have been done. Read
//!   [when something goes wrong](guide::errors) before you move real money.
//! * [`guide`] explains one subject per page; [`emulator`] tests your code without an account.
//!
//! # Guarantees
//!
//! 1. An ask is never sent twice when it may have been received once.
//! 2. A cut answer never looks complete.
//! 3. A temporary token problem never signs a user out and never changes their identity.
//!
//! # Features
//!
//! | feature | adds |
//! |---|---|
//! | `rustls` (default) | TLS by rustls, with the operating system's trusted roots |
//! | `native-tls`, `rustls-no-provider` | TLS by the operating system, or by rustls with a crypto provider that the program installs |
//! | `emulator` | [`Emulator`] |
//! | `sqlite`, `postgres` | [`SqlJournal`] and [`SqlTokenStore`] |
//! | `redis` | [`RedisTokenStore`] |
//! | `axum`, `actix-web` | replies, streams and errors as HTTP responses: [`web`] |
//! | `cli`, `mcp` | the program `payman`, and its Model Context Protocol server |
//! | `full` | everything but the other two choices of TLS |
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod ask;
mod auth;
mod client;
mod config;
#[doc(hidden)]
pub mod decode;
mod delivery;
#[cfg(feature = "emulator")]
#[cfg_attr(docsrs, doc(cfg(feature = "emulator")))]
pub mod emulator;
mod endpoint;
mod error;
// Hidden: public only for the program `payman`, which escapes the same characters.
#[doc(hidden)]
pub mod escape;
mod event;
pub mod guide;
mod identity;
mod ids;
mod inline_str;
pub mod journal;
mod observe;
mod os;
mod policy;
mod reply;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod sql;
mod stored_ask;
mod stream;
mod time;
mod transport;
pub mod web;
mod wire;

pub use ask::Ask;
pub use auth::connect::{AuthCode, ConnectUrl, Scope};
pub use auth::store::file::FileTokenStore;
pub use auth::store::memory::MemoryTokenStore;
#[cfg(feature = "redis")]
#[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
pub use auth::store::redis::RedisTokenStore;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
#[cfg_attr(docsrs, doc(cfg(any(feature = "sqlite", feature = "postgres"))))]
pub use auth::store::sql::SqlTokenStore;
pub use auth::store::{Claim, Claimed, Committed, StoreError, StoredToken, TokenKey, TokenStore};
pub use auth::token::{AccessToken, TokenFailure, TokenInfo, TokenSource, TokenStatus};
pub use client::Client;
pub use config::Config;
#[cfg(feature = "emulator")]
pub use emulator::{Emulator, EmulatorBuilder, EmulatorState};
pub use endpoint::Environment;
pub use error::{Error, ErrorKind, Result};
pub use event::Event;
pub use ids::{RequestId, SessionId, TaskId};
#[cfg(any(feature = "sqlite", feature = "postgres"))]
#[cfg_attr(docsrs, doc(cfg(any(feature = "sqlite", feature = "postgres"))))]
pub use journal::sql::{JournalTransaction, SqlJournal};
pub use journal::{
    Journal, JournalClaim, JournalEntry, JournalFilter, JournalRelease, JournalSaved, JournalState,
    JournalWorker, MemoryJournal,
};
pub use observe::{AskKind, AskOutcome, AskSummary};
pub use policy::RetryPolicy;
pub use reply::{RawReply, Reply};
pub use reqwest;
pub use secrecy;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
#[cfg_attr(docsrs, doc(cfg(any(feature = "sqlite", feature = "postgres"))))]
pub use sql::SqlPool;
pub use stream::{AskStream, RawStream, TextStream};
pub use wire::Metadata;
pub use wire::jsonrpc::RpcError;
pub use wire::part::{DataPart, FilePart, Part, TextPart};
pub use wire::state::TaskState;
pub use wire::task::{Artifact, Message, Role, StatusMessage, Task, TaskStatus};
pub use wire::timestamp::Timestamp;
pub use wire::update::{ArtifactUpdate, StatusUpdate};

/// The programs of the README, compiled and run as doctests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
