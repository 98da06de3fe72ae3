//! The same for streams of any kind, such as TLS: copied, with nothing held while nothing moves.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Error, MOST_HELD};

/// Relays between two streams until both have ended. A stream's end is passed on by shutting the other one down, for that direction
/// alone.
///
/// # Errors
/// One side broke off; to reset the other is the caller's, who knows what it is made of.
pub async fn streams<D, U>(downstream: &mut D, upstream: &mut U) -> Result<(), Error>
where
    D: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let (mut up, mut down) = (Half::default(), Half::default());
    poll_fn(|cx| {
        let went_up = up.poll(cx, downstream, upstream).map_err(|broken| match broken {
            Broken::From(error) => Error::Downstream(error),
            Broken::To(error) => Error::Upstream(error),
        })?;
        let went_down = down.poll(cx, upstream, downstream).map_err(|broken| match broken {
            Broken::From(error) => Error::Upstream(error),
            Broken::To(error) => Error::Downstream(error),
        })?;
        if went_up.is_ready() && went_down.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await
}

enum Broken {
    From(io::Error),
    To(io::Error),
}

/// One direction.
#[derive(Debug, Default)]
struct Half {
    held: Box<[u8]>,
    written: usize,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Open,
    /// Something was written that the stream may keep to itself.
    Unflushed,
    Ended,
    Closed,
}

impl Half {
    fn poll<F, T>(&mut self, cx: &mut Context<'_>, from: &mut F, to: &mut T) -> Poll<Result<(), Broken>>
    where
        F: AsyncRead + Unpin,
        T: AsyncWrite + Unpin,
    {
        loop {
            ready!(self.poll_write(cx, to)).map_err(Broken::To)?;
            match self.stage {
                Stage::Open | Stage::Unflushed => {
                    if self.poll_read(cx, from, to)?.is_ready() {
                        continue;
                    }
                    if self.stage == Stage::Unflushed {
                        ready!(Pin::new(&mut *to).poll_flush(cx)).map_err(Broken::To)?;
                        self.stage = Stage::Open;
                    }
                    return Poll::Pending;
                }
                Stage::Ended => {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx)).map_err(Broken::To)?;
                    self.stage = Stage::Closed;
                }
                Stage::Closed => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Writes all that is held.
    fn poll_write(&mut self, cx: &mut Context<'_>, to: &mut (impl AsyncWrite + Unpin)) -> Poll<io::Result<()>> {
        while let Some(rest) = self.held.get(self.written..).filter(|rest| !rest.is_empty()) {
            self.written += ready!(poll_some(cx, to, rest))?;
        }
        (self.held, self.written) = (Box::default(), 0);
        Poll::Ready(Ok(()))
    }

    /// Reads what is there, writes what the other side takes at once, and holds the rest.
    fn poll_read<F, T>(&mut self, cx: &mut Context<'_>, from: &mut F, to: &mut T) -> Poll<Result<(), Broken>>
    where
        F: AsyncRead + Unpin,
        T: AsyncWrite + Unpin,
    {
        let mut buffer = [MaybeUninit::uninit(); MOST_HELD];
        let mut buffer = ReadBuf::uninit(&mut buffer);
        ready!(Pin::new(from).poll_read(cx, &mut buffer)).map_err(Broken::From)?;
        if buffer.filled().is_empty() {
            self.stage = Stage::Ended;
            return Poll::Ready(Ok(()));
        }
        self.stage = Stage::Unflushed;
        let written = match poll_some(cx, to, buffer.filled()) {
            Poll::Ready(written) => written.map_err(Broken::To)?,
            Poll::Pending => 0,
        };
        self.held = buffer.filled().get(written..).unwrap_or_default().into();
        Poll::Ready(Ok(()))
    }
}

fn poll_some(cx: &mut Context<'_>, to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> Poll<io::Result<usize>> {
    match ready!(Pin::new(to).poll_write(cx, bytes))? {
        0 => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
        written => Poll::Ready(Ok(written)),
    }
}
