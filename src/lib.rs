#![doc = include_str!("../README.md")]
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
mod event;
mod ids;
mod inline_str;
pub mod journal;
mod observe;
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
