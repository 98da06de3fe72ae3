//! Stand-ins that speak no HTTP.

use anyhow::Result;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// What a server-first stand-in says.
pub(super) const GREETING: &[u8] = b"220 banner.example ready\r\n";

pub(super) async fn greet(mut stream: TcpStream) -> Result<()> {
    stream.write_all(GREETING).await?;
    echo(stream).await
}

/// Sends back whatever comes, as it comes, until the other side is done.
pub(super) async fn echo(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(stream.shutdown().await?);
        }
        stream.write_all(&buffer[..count]).await?;
        stream.flush().await?;
    }
}
