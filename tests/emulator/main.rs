//! The emulator as any HTTP client sees it.

#[path = "emulator/agent.rs"]
mod agent;
#[path = "emulator/consent.rs"]
mod consent;
#[path = "emulator/dialect.rs"]
mod dialect;
#[path = "emulator/faults.rs"]
mod faults;
#[path = "emulator/lifecycle.rs"]
mod lifecycle;
#[path = "emulator/oauth.rs"]
mod oauth;
#[path = "emulator/support.rs"]
mod support;
#[path = "emulator/tasks.rs"]
mod tasks;
