//! Reading an answer as far as a generator has to: its status, and its body by the length that it names.

use anyhow::{Context, Result, bail, ensure};
use tokio::io::AsyncReadExt;

use super::dial::Stream;

/// What is read of a connection, and what of it was not asked for yet.
pub(crate) struct Reader {
    buffer: Vec<u8>,
    filled: usize,
}

impl Reader {
    pub(crate) fn new() -> Self {
        Self { buffer: vec![0; 64 * 1024], filled: 0 }
    }

    /// A small one, for connections of which there are many.
    pub(crate) fn small() -> Self {
        Self { buffer: vec![0; 4 * 1024], filled: 0 }
    }

    /// Reads one answer that must have the status `expect`; `arrived` is told of the body's bytes as they come.
    pub(crate) async fn answer(
        &mut self,
        stream: &mut dyn Stream,
        expect: u16,
        mut arrived: impl FnMut(usize),
    ) -> Result<()> {
        let end = self.head(stream).await?;
        let head = self.buffer.get(..end).context("a head that was read")?;
        let (status, length) = parse(head)?;
        ensure!(status == expect, "{status} instead of {expect}");
        let rest = self.filled - end;
        ensure!(rest <= length, "{} bytes that nobody asked for", rest - length);
        arrived(rest);
        let mut missing = length - rest;
        self.filled = 0;
        while missing > 0 {
            let most = missing.min(self.buffer.len());
            let count = stream.read(self.buffer.get_mut(..most).unwrap_or_default()).await?;
            ensure!(count > 0, "the body ends {missing} bytes early");
            arrived(count);
            missing -= count;
        }
        Ok(())
    }

    /// Reads the connection's end, after which nothing may come.
    pub(crate) async fn end(&mut self, stream: &mut dyn Stream) -> Result<()> {
        // Some servers end TCP without ending TLS, which a client that has the whole answer does not mind.
        let count = stream.read(&mut self.buffer).await.unwrap_or(0);
        ensure!(count == 0, "{count} bytes after an answer that was to be the last");
        Ok(())
    }

    /// Reads to the end of a head and gives its length.
    async fn head(&mut self, stream: &mut dyn Stream) -> Result<usize> {
        loop {
            let filled = self.buffer.get(..self.filled).unwrap_or_default();
            if let Some(at) = filled.windows(4).position(|window| window == b"\r\n\r\n") {
                return Ok(at + 4);
            }
            let room = self.buffer.get_mut(self.filled..).unwrap_or_default();
            ensure!(!room.is_empty(), "a head that does not end");
            let count = stream.read(room).await?;
            ensure!(count > 0, "closed without an answer");
            self.filled += count;
        }
    }
}

/// Status and length of the body.
fn parse(head: &[u8]) -> Result<(u16, usize)> {
    let head = std::str::from_utf8(head)?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
    let status = status.with_context(|| format!("no status in {head:?}"))?;
    for line in lines {
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            return Ok((status, value.trim().parse()?));
        }
    }
    bail!("an answer without a length: {head:?}")
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn answers_are_read_whole_and_wrong_ones_are_errors() {
        let (mut ours, mut theirs) = tokio::io::duplex(1024);
        let right: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-LENGTH: 5\r\n\r\nhello";
        let other: &[u8] = b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n";
        theirs.write_all(right).await.unwrap();
        let (mut reader, mut bytes) = (Reader::small(), 0);
        reader.answer(&mut ours, 200, |count| bytes += count).await.unwrap();
        assert_eq!(bytes, 5);
        theirs.write_all(other).await.unwrap();
        let error = reader.answer(&mut ours, 200, |_| ()).await.unwrap_err();
        assert_eq!(error.to_string(), "503 instead of 200");
        drop(theirs);
        assert!(Reader::small().answer(&mut ours, 200, |_| ()).await.is_err());
    }
}
