//! A Redis server that answers scripts as it is told to.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// The answer to one command.
#[derive(Clone, Debug)]
pub enum Answer {
    /// RESP, without the last line end.
    Raw(String),
    /// Nothing, until the client leaves.
    Silence,
    /// The connection is closed.
    Close,
}

impl Answer {
    pub fn error(text: &str) -> Self {
        Self::Raw(format!("-{text}"))
    }

    /// Returns the answer to reading a token that is valid for an hour.
    pub fn token(access: &str) -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let now = u64::try_from(now.as_millis()).unwrap();
        let json = serde_json::json!({
            "generation": 1, "access_token": access, "issued_at": now,
            "expires_at": now + 3_600_000, "refresh_token": "refresh",
        });
        let json = json.to_string();
        Self::Raw(format!("*2\r\n$5\r\ntoken\r\n${}\r\n{json}", json.len()))
    }
}

/// A command, and where it came.
pub struct Command {
    /// The number of the connection, from 1.
    pub connection: usize,
    /// In upper case.
    pub name: String,
}

impl Command {
    pub fn is_script(&self) -> bool {
        self.name == "EVALSHA"
    }
}

type Script = dyn Fn(&Command) -> Answer + Send + Sync;

/// The server.
pub struct RespServer {
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl RespServer {
    /// Starts a server on this runtime. What is not a script succeeds, unless `answer` is asked.
    pub async fn start(
        tls: Option<TlsAcceptor>,
        answer: impl Fn(&Command) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::<AtomicUsize>::default();
        let (accepted, answer): (_, Arc<Script>) = (Arc::clone(&connections), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let number = accepted.fetch_add(1, Ordering::SeqCst) + 1;
                let (answer, tls) = (Arc::clone(&answer), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(socket, number, &answer).await,
                        Some(tls) => serve(tls.accept(socket).await?, number, &answer).await,
                    }
                });
            }
        });
        Self { address, connections }
    }

    /// Starts a server that answers reading a token, by the number of the connection.
    pub async fn reads(answer: impl Fn(usize) -> Answer + Send + Sync + 'static) -> Self {
        Self::start(
            None,
            move |command| {
                if command.is_script() { answer(command.connection) } else { ok() }
            },
        )
        .await
    }

    pub fn url(&self) -> String {
        format!("redis://{}/", self.address)
    }

    /// Returns the number of connections so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

pub fn ok() -> Answer {
    Answer::Raw("+OK".to_owned())
}

async fn serve(
    socket: impl AsyncRead + AsyncWrite + Unpin,
    connection: usize,
    answer: &Arc<Script>,
) -> io::Result<()> {
    let mut socket = BufReader::new(socket);
    while let Some(name) = read_command(&mut socket).await? {
        match answer(&Command { connection, name }) {
            Answer::Raw(text) => socket.write_all(format!("{text}\r\n").as_bytes()).await?,
            Answer::Silence => {
                tokio::io::copy(&mut socket, &mut tokio::io::sink()).await?;
                return Ok(());
            }
            Answer::Close => return Ok(()),
        }
        socket.flush().await?;
    }
    Ok(())
}

/// Reads an array of bulk strings, and returns the first one.
async fn read_command(socket: &mut (impl AsyncBufReadExt + Unpin)) -> io::Result<Option<String>> {
    let Some(count) = read_length(socket, '*').await? else {
        return Ok(None);
    };
    let mut name = None;
    for _ in 0..count {
        let length = read_length(socket, '$').await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut bytes = vec![0; length + 2];
        socket.read_exact(&mut bytes).await?;
        bytes.truncate(length);
        name.get_or_insert_with(|| String::from_utf8_lossy(&bytes).to_uppercase());
    }
    Ok(name)
}

async fn read_length(
    socket: &mut (impl AsyncBufReadExt + Unpin),
    mark: char,
) -> io::Result<Option<usize>> {
    let mut line = String::new();
    if socket.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let length = line.strip_prefix(mark).and_then(|length| length.trim_end().parse().ok());
    length.map(Some).ok_or_else(|| io::ErrorKind::InvalidData.into())
}
