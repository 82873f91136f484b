//! A client per user: all share one connection pool, their number is bounded, and each can be
//! created again from the token store.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::join_all;
use payman_sdk::{AuthCode, Client, Config, Result, TokenInfo, TokenStore};

use crate::cookies::User;

/// The maximum number of clients that are kept.
const MAX_CLIENTS: usize = 1_000;

pub struct Users {
    config: Config,
    ready: Mutex<ClientCache>,
}

impl Users {
    pub fn new(config: Config, store: Arc<dyn TokenStore>) -> Result<Self> {
        // Never asks anything: it provides the connections of the users' clients.
        let pool = Client::with_credentials(config.clone())?;
        let config = config.token_store(store).share_connections(&pool);
        Ok(Self { config, ready: Mutex::new(ClientCache::new(MAX_CLIENTS)) })
    }

    /// Returns the user's client, connected or not: the token store is read on first use.
    pub fn client(&self, user: &User) -> Result<Client> {
        if let Some(client) = self.ready().get(user) {
            return Ok(client);
        }
        let client = Client::with_token(self.config_of(user), TokenInfo::stored())?;
        Ok(self.ready().put(user, client))
    }

    /// Exchanges the code that the user brought back from the consent page.
    pub async fn sign_in(&self, user: &User, code: AuthCode) -> Result<()> {
        let client = Client::with_auth_code(self.config_of(user), code).await?;
        let mut ready = self.ready();
        ready.remove(user); // that of an earlier sign-in
        ready.put(user, client);
        Ok(())
    }

    /// Removes the user's token, in this process and in the store.
    pub async fn sign_out(&self, user: &User) -> Result<()> {
        self.client(user)?.sign_out().await?;
        self.ready().remove(user);
        Ok(())
    }

    /// Waits for refreshes in progress and for tokens that are not stored yet.
    pub async fn close(&self) {
        let clients = self.ready().all();
        join_all(clients.iter().map(Client::close)).await;
    }

    fn config_of(&self, user: &User) -> Config {
        self.config.clone().subject(user.id())
    }

    fn ready(&self) -> MutexGuard<'_, ClientCache> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The clients used last. Dropping one loses its session only: the token is in the store.
pub struct ClientCache {
    most: usize,
    clients: HashMap<User, (Client, u64)>,
    uses: u64,
}

impl ClientCache {
    pub fn new(most: usize) -> Self {
        Self { most, clients: HashMap::new(), uses: 0 }
    }

    pub fn get(&mut self, user: &User) -> Option<Client> {
        self.uses += 1;
        let (client, last_used) = self.clients.get_mut(user)?;
        *last_used = self.uses;
        Some(client.clone())
    }

    /// Keeps a client, or returns the one that another request added first.
    pub fn put(&mut self, user: &User, client: Client) -> Client {
        if let Some(client) = self.get(user) {
            return client;
        }
        if self.clients.len() >= self.most {
            let oldest = self
                .clients
                .iter()
                .min_by_key(|(_, (_, used))| *used)
                .map(|(user, _)| user.clone());
            oldest.map(|user| self.clients.remove(&user));
        }
        self.clients.insert(user.clone(), (client.clone(), self.uses));
        client
    }

    pub fn all(&self) -> Vec<Client> {
        self.clients.values().map(|(client, _)| client.clone()).collect()
    }

    pub fn remove(&mut self, user: &User) {
        self.clients.remove(user);
    }
}
