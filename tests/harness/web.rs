//! A web server of a test's own, on a port of this machine.

use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The server. It ends with its value.
#[derive(Debug)]
pub struct Web {
    address: SocketAddr,
    serving: JoinHandle<()>,
}

/// What it answers.
#[derive(Debug, Clone)]
pub enum Reply {
    /// With this body.
    Body(Vec<u8>),
    /// With so many bytes, one piece after the other.
    Bytes(usize),
    /// That it is elsewhere.
    Redirect(String),
    /// Nothing, ever.
    Silence,
    /// The beginning of a body, and then nothing, ever.
    Stall,
    /// With so many header lines.
    Headers(usize),
}

impl Web {
    /// Starts it: `reply` answers by path.
    ///
    /// # Panics
    /// If there is no port.
    pub async fn start(reply: impl Fn(&str) -> Reply + Send + Sync + Clone + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // Whoever asked may be gone before the answer is out.
                let reply = reply.clone();
                tokio::spawn(async move { serve(stream, reply).await.ok() });
            }
        });
        Self { address, serving }
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(stream: TcpStream, reply: impl Fn(&str) -> Reply) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    match reply(&path) {
        Reply::Body(body) => {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            stream.write_all(&[head.as_bytes(), &body].concat()).await
        }
        Reply::Bytes(bytes) => {
            stream
                .write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {bytes}\r\n\r\n").as_bytes())
                .await?;
            let piece = [b'x'; 16 * 1024];
            for at in (0..bytes).step_by(piece.len()) {
                stream.write_all(&piece[..piece.len().min(bytes - at)]).await?;
            }
            Ok(())
        }
        Reply::Redirect(to) => {
            let head = format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n");
            stream.write_all(head.as_bytes()).await
        }
        Reply::Silence => std::future::pending().await,
        Reply::Stall => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nbeginning").await?;
            std::future::pending().await
        }
        Reply::Headers(lines) => {
            let lines: String = (0..lines).map(|n| format!("x-{n}: {}\r\n", "y".repeat(64))).collect();
            stream.write_all(format!("HTTP/1.1 200 OK\r\n{lines}content-length: 0\r\n\r\n").as_bytes()).await
        }
    }
}
