//! One end of a connection: does what a script orders, and keeps what it hears, in order.
//!
//! A party reads all the time unless it is told to be deaf, so what it hears does not depend on when a script asks.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

use crate::secret::Secret;

/// How a direction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The TLS layer said that nothing more comes (close_notify).
    Notify,
    /// The TCP stream ended in order.
    Fin,
    /// The connection was reset.
    Reset,
    /// The TLS layer could not go on.
    Broken,
}

/// What a party is to do. In order: an end waits for the bytes before it.
#[derive(Debug)]
pub enum Order {
    /// Sends these bytes, in one piece as far as the kernel takes them.
    Say(Bytes),
    /// Sends these bytes one by one, each in a segment (and a TLS record) of its own.
    Trickle(Bytes),
    /// Says that nothing more comes: inside TLS the layer's own word first, then FIN.
    Finish,
    /// FIN without a word of the TLS layer.
    Cut,
    /// The TLS layer's word without a FIN.
    Notify,
    /// Breaks off.
    Reset,
    /// Stops reading.
    Deafen,
    /// Reads again.
    Listen,
}

/// What came and was not taken yet.
#[derive(Debug, Default)]
pub struct Inbox {
    /// Bytes, of the application inside TLS.
    pub bytes: BytesMut,
    /// How it ended, in the order in which it was told.
    pub ends: VecDeque<End>,
    /// Whether anything ever came.
    pub has_heard: bool,
    /// The application protocol that the TLS layers have agreed on.
    pub agreed: Option<String>,
    is_over: bool,
}

impl Inbox {
    /// Whether this connection ended before it carried anything.
    pub fn was_in_vain(&self) -> bool {
        !self.has_heard && self.is_over
    }

    /// The next bytes, at most so many.
    pub fn take(&mut self, count: usize) -> Bytes {
        let count = count.min(self.bytes.len());
        self.bytes.split_to(count).freeze()
    }
}

/// A handle of a party; the socket is closed when it is dropped.
#[derive(Debug)]
pub struct Party {
    orders: UnboundedSender<Order>,
    inbox: Arc<Mutex<Inbox>>,
    changed: Arc<Notify>,
}

impl Party {
    /// Lets `stream` be one end, inside TLS where there is a `secret`.
    pub fn on(stream: TcpStream, secret: Option<Secret>, changed: Arc<Notify>) -> Self {
        stream.set_nodelay(true).unwrap();
        let (orders, receiver) = unbounded_channel();
        let inbox = Arc::default();
        let actor = Actor {
            stream,
            secret,
            inbox: Arc::clone(&inbox),
            changed: Arc::clone(&changed),
            out: VecDeque::new(),
            hearing: Hearing::Yes,
            is_deaf: false,
        };
        tokio::spawn(actor.run(receiver));
        Self { orders, inbox, changed }
    }

    /// Gives an order. One to a connection that is gone is lost, as its bytes would be.
    pub fn order(&self, order: Order) {
        let _ = self.orders.send(order);
    }

    /// What came so far.
    pub fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `enough` of what came is there; `false` when `bound` passed first.
    pub async fn until(&self, bound: Duration, enough: impl Fn(&Inbox) -> bool) -> bool {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if enough(&self.inbox()) {
                    return;
                }
                changed.await;
            }
        };
        timeout(bound, wait).await.is_ok()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Hearing {
    Yes,
    /// The stream has ended.
    No,
}

/// What is still to be sent.
enum Out {
    Bytes(Bytes),
    Finish,
    Reset,
    /// Lets others run, so that the segments before and after are apart.
    Pause,
}

struct Actor {
    stream: TcpStream,
    secret: Option<Secret>,
    inbox: Arc<Mutex<Inbox>>,
    changed: Arc<Notify>,
    out: VecDeque<Out>,
    hearing: Hearing,
    is_deaf: bool,
}

impl Actor {
    async fn run(mut self, mut orders: UnboundedReceiver<Order>) {
        if let Some(secret) = &mut self.secret {
            let hello = secret.take_wire();
            self.queue(hello.into());
        }
        loop {
            let Ok(is_blocked) = self.flush().await else { return self.ended(End::Reset) };
            let listens = self.hearing == Hearing::Yes && !self.is_deaf;
            let interest = match (listens, is_blocked) {
                (true, true) => Interest::READABLE | Interest::WRITABLE,
                (true, false) => Interest::READABLE,
                (false, true) => Interest::WRITABLE,
                (false, false) => Interest::ERROR,
            };
            // A word of the application has to wait for the handshake, and so has an end.
            let is_ready = self.hearing == Hearing::No || !self.secret.as_ref().is_some_and(Secret::is_shaking_hands);
            tokio::select! {
                order = orders.recv(), if is_ready => match order {
                    Some(order) => self.obey(order),
                    None => return,
                },
                ready = self.stream.ready(interest), if listens || is_blocked => {
                    if listens && ready.is_ok_and(|ready| ready.is_readable() || ready.is_error()) && self.read().is_err() {
                        self.ended(End::Reset);
                        self.hearing = Hearing::No;
                    }
                }
            }
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Say(bytes) => self.say(bytes),
            Order::Trickle(bytes) => {
                for byte in bytes {
                    self.say(Bytes::copy_from_slice(&[byte]));
                    self.out.push_back(Out::Pause);
                }
            }
            Order::Finish => {
                self.notify();
                self.out.push_back(Out::Finish);
            }
            Order::Cut => self.out.push_back(Out::Finish),
            Order::Notify => self.notify(),
            Order::Reset => self.out.push_back(Out::Reset),
            Order::Deafen => self.is_deaf = true,
            Order::Listen => self.is_deaf = false,
        }
    }

    fn say(&mut self, bytes: Bytes) {
        let wire = match &mut self.secret {
            Some(secret) => secret.seal(&bytes).into(),
            None => bytes,
        };
        self.queue(wire);
    }

    fn notify(&mut self) {
        if let Some(secret) = &mut self.secret {
            let wire = secret.seal_end();
            self.queue(wire.into());
        }
    }

    fn queue(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.out.push_back(Out::Bytes(bytes));
        }
    }

    /// Sends what the kernel takes; tells whether it takes no more for now.
    async fn flush(&mut self) -> Result<bool, ()> {
        while let Some(next) = self.out.pop_front() {
            match next {
                Out::Bytes(mut bytes) => match self.stream.try_write(&bytes) {
                    Ok(count) if count == bytes.len() => {}
                    Ok(count) => self.out.push_front(Out::Bytes(bytes.split_off(count))),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        self.out.push_front(Out::Bytes(bytes));
                        return Ok(true);
                    }
                    // How the connection ended is told by reading; what cannot be sent any more is lost.
                    Err(_) => self.out.clear(),
                },
                Out::Finish => {
                    let _ = SockRef::from(&self.stream).shutdown(std::net::Shutdown::Write);
                }
                Out::Reset => {
                    let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
                    return Err(());
                }
                Out::Pause => tokio::task::yield_now().await,
            }
        }
        Ok(false)
    }

    fn read(&mut self) -> Result<(), ()> {
        let mut buffer = [0; 64 * 1024];
        match self.stream.try_read(&mut buffer) {
            Ok(0) => {
                self.hearing = Hearing::No;
                self.ended(End::Fin);
                Ok(())
            }
            Ok(count) => {
                self.heard(&buffer[..count]);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(_) => Err(()),
        }
    }

    fn heard(&mut self, wire: &[u8]) {
        let Some(secret) = &mut self.secret else { return self.keep(wire, None) };
        let opened = secret.open(wire);
        let (reply, agreed) = (secret.take_wire(), secret.agreed());
        self.queue(reply.into());
        if agreed.is_some() {
            self.inbox.lock().unwrap_or_else(PoisonError::into_inner).agreed = agreed;
        }
        self.keep(&opened.bytes, opened.end);
    }

    fn keep(&self, bytes: &[u8], end: Option<End>) {
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        inbox.bytes.extend_from_slice(bytes);
        inbox.has_heard |= !bytes.is_empty();
        inbox.ends.extend(end);
        drop(inbox);
        self.changed.notify_waiters();
    }

    fn ended(&self, end: End) {
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        inbox.is_over = true;
        inbox.ends.push_back(end);
        drop(inbox);
        self.changed.notify_waiters();
    }
}
