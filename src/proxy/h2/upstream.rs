//! The upstream connections of one client connection.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;

use super::super::upstream::Upstream;
use super::{CONNECTION_WINDOW, MAX_FRAME, SEND_BUFFER, STREAM_WINDOW};

/// Connections to the upstream: one, and more only where it allows too few streams at once.
#[derive(Clone)]
pub(super) struct Connections {
    upstream: Rc<Upstream>,
    open: Rc<RefCell<Vec<Ready>>>,
    max_head: usize,
    max_age: Duration,
}

/// A connection and its streams: every stream holds a clone of the count.
#[derive(Clone)]
pub(super) struct Ready {
    pub send: SendRequest<Bytes>,
    streams: Rc<()>,
    born: Instant,
}

impl Ready {
    fn has_room(&self) -> bool {
        Rc::strong_count(&self.streams) <= self.send.current_max_send_streams()
    }
}

impl Connections {
    pub fn new(upstream: Upstream, max_head: usize, max_age: Duration) -> Self {
        Self {
            upstream: Rc::new(upstream),
            open: Rc::default(),
            max_head,
            max_age,
        }
    }

    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// A connection that takes one more stream now.
    ///
    /// # Errors
    /// The upstream cannot be reached, or speaks no HTTP/2.
    pub async fn ready(&self) -> io::Result<Ready> {
        // An old one goes when its streams have ended.
        self.open
            .borrow_mut()
            .retain(|c| c.born.elapsed() < self.max_age);
        loop {
            let candidate = self.open.borrow().iter().find(|c| c.has_room()).cloned();
            let Some(Ready {
                send,
                streams,
                born,
            }) = candidate
            else {
                break;
            };
            match send.ready().await {
                Ok(send) => {
                    return Ok(Ready {
                        send,
                        streams,
                        born,
                    });
                }
                // Closed or going away: forgotten, and nothing was sent on it.
                Err(_) => self.open.borrow_mut().retain(|c| !closed(&c.send)),
            }
        }
        let send = self.connect().await?;
        let streams = Rc::new(());
        let born = Instant::now();
        self.open.borrow_mut().push(Ready {
            send: send.clone(),
            streams: streams.clone(),
            born,
        });
        Ok(Ready {
            send: send.ready().await.map_err(into_io)?,
            streams,
            born,
        })
    }

    async fn connect(&self) -> io::Result<SendRequest<Bytes>> {
        let stream = self.upstream.connect(true).await?;
        let (send, connection) = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(MAX_FRAME)
            .max_send_buffer_size(SEND_BUFFER)
            .max_header_list_size(u32::try_from(self.max_head).unwrap_or(u32::MAX))
            // The client was promised nothing that could be pushed.
            .enable_push(false)
            .handshake(stream)
            .await
            .map_err(into_io)?;
        tokio::task::spawn_local(async move {
            // Its streams hear of its end themselves.
            let _ = connection.await;
        });
        Ok(send)
    }
}

/// True where the connection takes no more requests.
fn closed(connection: &SendRequest<Bytes>) -> bool {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    matches!(
        connection.clone().poll_ready(&mut context),
        std::task::Poll::Ready(Err(_))
    )
}

fn into_io(e: h2::Error) -> io::Error {
    if e.is_io() {
        return e
            .into_io()
            .unwrap_or_else(|| io::Error::other("the connection broke"));
    }
    io::Error::other(e)
}
