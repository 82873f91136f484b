//! The user guide, one page per subject, in the order in which people need them.
//!
//! Every example is compiled, and most run against the [emulator](crate::emulator) when the tests
//! run.
//!
//! | page | answers |
//! |---|---|
//! | [`quick_start`] | How do I ask, answer a question, attach metadata? |
//! | [`streaming`] | How do I show the answer while it is written? |
//! | [`sessions`] | How does the agent remember a conversation, for each of my visitors? |
//! | [`tokens`] | How do users connect, and how are tokens kept across restarts and replicas? |
//! | [`errors`] | Was it done? What may I repeat? |
//! | [`idempotency`] | How do I pay an order exactly once? |
//! | [`web_backends`] | How do I embed it in axum or actix-web? |
//! | [`workers`] | How do I pay many orders? |
//! | [`mcp`] | How does an assistant use the platform? |
//! | [`testing`] | How do I test my own code without an account? |
//! | [`observability`] | Which spans, fields and metrics are there? |
//! | [`shutdown`] | What has to happen before the process ends? |
//! | [`paid`] | How do I know that it was paid? |
//! | [`test_money`] | How do I use test money? |
//! | [`wire`] | What crosses the network? |
//! | [`migrating`] | What is this Python or TypeScript call in Rust? |

#[doc = include_str!("quick_start.md")]
pub mod quick_start {}
#[doc = include_str!("streaming.md")]
pub mod streaming {}
#[doc = include_str!("sessions.md")]
pub mod sessions {}
#[doc = include_str!("tokens.md")]
pub mod tokens {}
#[doc = include_str!("errors.md")]
#[doc = include_str!("retry_table.md")]
#[doc = include_str!("errors_tokens.md")]
#[doc = include_str!("token_table.md")]
#[doc = include_str!("errors_limits.md")]
pub mod errors {}
#[doc = include_str!("idempotency.md")]
pub mod idempotency {}
#[doc = include_str!("web_backends.md")]
pub mod web_backends {}
#[doc = include_str!("workers.md")]
pub mod workers {}
#[doc = include_str!("mcp.md")]
pub mod mcp {}
#[doc = include_str!("testing.md")]
pub mod testing {}
#[doc = include_str!("observability.md")]
pub mod observability {}
#[doc = include_str!("shutdown.md")]
pub mod shutdown {}
#[doc = include_str!("paid.md")]
pub mod paid {}
#[doc = include_str!("test_money.md")]
pub mod test_money {}
#[doc = include_str!("wire.md")]
pub mod wire {}
#[doc = include_str!("migrating.md")]
pub mod migrating {}
