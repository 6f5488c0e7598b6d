//! Reading ahead: a capture is decoded by a thread of its own while the engine answers.

use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{Builder, JoinHandle};

/// Items that wait for the engine; memory is bounded by them, and an engine slower than the disk never
/// waits for more than one.
const WAITING: usize = 1;

/// The items of an iterator that runs in a thread of its own.
pub(super) struct Ahead<T> {
    items: Receiver<T>,
    thread: Option<JoinHandle<()>>,
}

/// Starts to read.
///
/// # Errors
/// The system starts no more threads.
pub(super) fn ahead<T, I>(items: I) -> std::io::Result<Ahead<T>>
where
    T: Send + 'static,
    I: Iterator<Item = T> + Send + 'static,
{
    let (send, receive) = sync_channel(WAITING);
    let thread = Builder::new()
        .name("read-ahead".to_owned())
        .spawn(move || {
            for item in items {
                // Nobody waits for the rest where the stage was given up.
                if send.send(item).is_err() {
                    return;
                }
            }
        })?;
    Ok(Ahead {
        items: receive,
        thread: Some(thread),
    })
}

impl<T> Iterator for Ahead<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        if let Ok(item) = self.items.recv() {
            return Some(item);
        }
        // The end, or a panic: the items before one must not pass for all of them.
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) {
            resume_unwind(panic);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_comes_in_order_and_an_early_end_is_no_hang() {
        let all: Vec<_> = ahead(0..1000).unwrap().collect();
        assert_eq!(all, (0..1000).collect::<Vec<_>>());
        assert_eq!(ahead(0..).unwrap().take(3).count(), 3);
    }

    #[test]
    #[should_panic(expected = "no third")]
    fn a_panic_is_no_end() {
        let items = (0..9).inspect(|i| assert!(*i < 2, "no third"));
        let _ = ahead(items).unwrap().count();
    }
}
