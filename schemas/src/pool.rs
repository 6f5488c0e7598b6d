//! Memory for large payloads, used again: the kernel clears each page of fresh memory and gives it at a fault
//! of its own, which takes longer than to read or to copy what goes there.

use std::convert::Infallible;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// Shorter pieces come from the allocator's own stock.
const LEAST: usize = 64 << 10;
/// Bytes that wait for their next use, at most.
const WAITING: usize = 8 << 20;

/// Memory that waits for its next use, what came back last at the end.
pub(crate) struct Pool(Mutex<Vec<Vec<u8>>>);

/// That of the process.
pub(crate) static POOL: Pool = Pool::new();

/// A copy of them.
pub fn copied(bytes: &[u8]) -> Bytes {
    if bytes.len() < LEAST {
        return Bytes::copy_from_slice(bytes);
    }
    let filled = POOL.filled(bytes.len(), |memory| {
        memory.copy_from_slice(bytes);
        Ok::<_, Infallible>(())
    });
    let Ok(copy) = filled;
    copy
}

impl Pool {
    const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// `length` bytes that `fill` writes, which may find any bytes there.
    ///
    /// # Errors
    /// Those of `fill`.
    pub fn filled<E>(
        &'static self,
        length: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<Bytes, E> {
        if length < LEAST {
            let mut memory = vec![0; length];
            fill(&mut memory)?;
            return Ok(memory.into());
        }
        let mut lent = Lent {
            memory: self.take(length),
            length,
            pool: self,
        };
        fill(&mut lent.memory[..length])?;
        Ok(Bytes::from_owner(lent))
    }

    /// At least `length` bytes, and not far more: who holds a small piece of them holds all.
    fn take(&self, length: usize) -> Vec<u8> {
        let room = length.next_multiple_of(LEAST);
        let fits = |memory: &Vec<u8>| (length..=2 * room).contains(&memory.len());
        let mut waiting = self.waiting();
        match waiting.iter().rposition(fits) {
            Some(i) => waiting.remove(i),
            None => vec![0; room],
        }
    }

    fn give_back(&self, memory: Vec<u8>) {
        if memory.len() > WAITING {
            return;
        }
        let mut waiting = self.waiting();
        waiting.push(memory);
        let mut bytes: usize = waiting.iter().map(Vec::len).sum();
        let too_many = waiting.iter().take_while(|memory| {
            let more = bytes > WAITING;
            bytes -= if more { memory.len() } else { 0 };
            more
        });
        let too_many = too_many.count();
        waiting.drain(..too_many);
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Goes back to its pool when the last of its bytes are dropped.
struct Lent {
    memory: Vec<u8>,
    length: usize,
    pool: &'static Pool,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.memory[..self.length]
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.pool.give_back(std::mem::take(&mut self.memory));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(pool: &'static Pool, length: usize, of: u8) -> Bytes {
        let filled = pool.filled(length, |memory| {
            memory.fill(of);
            Ok::<_, Infallible>(())
        });
        filled.unwrap()
    }

    #[test]
    fn memory_comes_back_with_the_last_piece_of_it_and_only_for_what_fits() {
        static POOL: Pool = Pool::new();
        let length = 10 * LEAST + 1;
        let first = bytes(&POOL, length, 7);
        let place = first.as_ptr();
        let piece = first.slice(5..6);
        drop(first);
        assert_ne!(
            bytes(&POOL, length, 8).as_ptr(),
            place,
            "a piece of it is in use"
        );
        assert_eq!(*piece, [7]);
        drop(piece);
        assert_ne!(
            bytes(&POOL, 2 * LEAST, 9).as_ptr(),
            place,
            "it is far longer"
        );
        let again = bytes(&POOL, length - 5, 6);
        assert_eq!(again.as_ptr(), place);
        assert_eq!(again, vec![6; length - 5]);
    }

    #[test]
    fn what_waits_is_bounded_and_the_oldest_goes() {
        static POOL: Pool = Pool::new();
        let length = WAITING / 4;
        let lent: Vec<_> = (0..6).map(|i| bytes(&POOL, length, i)).collect();
        let places: Vec<_> = lent.iter().map(|b| b.as_ptr()).collect();
        drop(lent);
        let waiting: Vec<_> = POOL.waiting().iter().map(|m| m.as_ptr()).collect();
        assert_eq!(waiting, places[2..]);
        drop(bytes(&POOL, 2 * WAITING, 0));
        assert_eq!(POOL.waiting().len(), 4, "longer than all that may wait");
    }

    #[test]
    fn an_error_gives_the_memory_back() {
        static POOL: Pool = Pool::new();
        assert_eq!(POOL.filled(LEAST, |_| Err("no")), Err("no"));
        assert_eq!(POOL.waiting().len(), 1);
        assert_eq!(POOL.filled(5, |_| Err("no")), Err("no"));
    }
}
