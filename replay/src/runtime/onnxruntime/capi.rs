//! The little of ONNX Runtime's C API that `ort` does not wrap is called through here.

use std::ffi::CStr;
use std::os::raw::c_char;

/// Turns a status into a result and frees it.
///
/// # Safety
/// `status` comes from a call of the C API and is used by nobody else.
#[expect(unsafe_code, reason = "statuses of the C API")]
pub(super) unsafe fn check(status: ort::sys::OrtStatusPtr) -> Result<(), ort::Error> {
    // SAFETY: as the caller promises.
    unsafe { ort::Error::result_from_status(status) }
}

/// An array that somebody else owns.
///
/// # Safety
/// `data` points to `count` elements that live for `'a`, or is null.
#[expect(unsafe_code, reason = "arrays of the C API")]
pub(super) unsafe fn slice<'a, T>(data: *const T, count: usize) -> &'a [T] {
    if data.is_null() || count == 0 {
        return &[];
    }
    // SAFETY: as the caller promises.
    unsafe { std::slice::from_raw_parts(data, count) }
}

/// A copy of a string that somebody else owns; empty for null.
///
/// # Safety
/// `text` is a C string, or null.
#[expect(unsafe_code, reason = "strings of the C API")]
pub(super) unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: as the caller promises.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_string_lossy().into_owned()
}
