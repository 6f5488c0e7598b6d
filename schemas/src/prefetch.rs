//! Asking for memory before it is read.

/// Asks for bytes that are read soon. A processor fetches ahead by itself, but not across the pages of
/// its virtual memory, and not for many streams at once.
#[inline]
pub fn prefetch(data: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    for line in data.chunks(64) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch reads nothing that a program could see, and never faults.
        #[expect(unsafe_code, reason = "no safe instruction asks for memory")]
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = data;
}
