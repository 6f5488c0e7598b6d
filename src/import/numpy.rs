//! One NumPy array (`.npy` bytes) → tensor.
//!
//! Source: NEP 1, "A Simple File Format for NumPy Arrays", versions 1.0 to 3.0. The header is one
//! line; the crates that read it bring a grammar generator or an array library with them.

use std::io::Read;

use inferdiff_schemas::tensor::{MAX_PAYLOAD_BYTES, element_count};
use inferdiff_schemas::{Datatype, Tensor};

use super::bytes_data;

/// Reads an array. Any byte order, C and Fortran order; text becomes BYTES (UTF-8).
///
/// # Errors
/// What is wrong with it: not a `.npy`, a datatype that no protocol carries, shorter or longer
/// than its header says.
pub(super) fn tensor(name: &str, mut from: impl Read) -> Result<Tensor, String> {
    let Header {
        kind,
        width,
        big,
        fortran,
        shape,
    } = header(&mut from)?;
    // Text is counted in characters of four bytes.
    let size = if kind == 'U' {
        width.saturating_mul(4)
    } else {
        width
    };
    let elements = element_count(name, &shape).map_err(|e| e.to_string())?;
    let expected = elements
        .checked_mul(size as u64)
        .filter(|&n| n <= MAX_PAYLOAD_BYTES)
        .ok_or_else(|| {
            format!("shape {shape:?} of {size}-byte elements is over the 1 GiB limit")
        })?;
    let mut data = Vec::new();
    // One byte more than there should be: the end of the file is part of the check.
    let read = from.take(expected + 1).read_to_end(&mut data);
    read.map_err(|e| e.to_string())?;
    if data.len() as u64 != expected {
        let side = if data.len() as u64 > expected {
            "more"
        } else {
            "fewer"
        };
        return Err(format!(
            "shape {shape:?} needs {expected} bytes, {side} are there"
        ));
    }
    if fortran {
        data = c_order(&data, &shape, size);
    }
    if big && size > 0 {
        let width = if kind == 'U' { 4 } else { size };
        data.chunks_exact_mut(width).for_each(<[u8]>::reverse);
    }
    let (datatype, data) = typed(kind, size, data)?;
    Tensor::inline(name, datatype, shape, data.into()).map_err(|e| e.to_string())
}

struct Header {
    /// NumPy's kind: b, i, u, f, S, U, V, …
    kind: char,
    /// Bytes per element; characters for U.
    width: usize,
    big: bool,
    fortran: bool,
    shape: Vec<i64>,
}

/// Reads up to where the data begins.
fn header(from: &mut impl Read) -> Result<Header, String> {
    let short = |e: std::io::Error| format!("no NumPy array: {e}");
    let mut magic = [0; 8];
    from.read_exact(&mut magic).map_err(short)?;
    if !magic.starts_with(b"\x93NUMPY") {
        return Err("no NumPy array: it does not begin with \\x93NUMPY".to_owned());
    }
    let length = if magic[6] == 1 {
        let mut n = [0; 2];
        from.read_exact(&mut n).map_err(short)?;
        u32::from(u16::from_le_bytes(n))
    } else {
        let mut n = [0; 4];
        from.read_exact(&mut n).map_err(short)?;
        u32::from_le_bytes(n)
    };
    let mut text = String::new();
    let read = from.take(u64::from(length)).read_to_string(&mut text);
    read.map_err(short)?;
    let odd = || format!("a NumPy header that is none: {text:?}");
    let value = |key: &str| {
        let at = text.find(&format!("'{key}'"))? + key.len() + 2;
        Some(text[at..].trim_start().strip_prefix(':')?.trim_start())
    };
    let descr = value("descr").ok_or_else(odd)?;
    let descr = descr.strip_prefix('\'').and_then(|d| d.split('\'').next());
    let Some(descr) = descr else {
        return Err("a structured array is several tensors: save each by its own name".to_owned());
    };
    let mut chars = descr.chars();
    let order = chars.next().ok_or_else(odd)?;
    let kind = chars.next().ok_or_else(odd)?;
    if kind == 'O' || order == 'O' {
        return Err("an array of Python objects: save it with a NumPy datatype".to_owned());
    }
    let fortran = value("fortran_order").ok_or_else(odd)?.starts_with("True");
    let dims = value("shape").and_then(|s| s.strip_prefix('(')?.split(')').next());
    let dims = dims.ok_or_else(odd)?.split(',').map(str::trim);
    let shape: Result<Vec<i64>, _> = dims.filter(|d| !d.is_empty()).map(str::parse).collect();
    let width: String = chars.take_while(char::is_ascii_digit).collect();
    Ok(Header {
        kind,
        width: width.parse().map_err(|_| odd())?,
        big: order == '>',
        fortran,
        shape: shape.map_err(|_| odd())?,
    })
}

fn typed(kind: char, size: usize, data: Vec<u8>) -> Result<(Datatype, Vec<u8>), String> {
    let datatype = match (kind, size) {
        ('b', 1) => Datatype::Bool,
        ('i', 1) => Datatype::Int8,
        ('i', 2) => Datatype::Int16,
        ('i', 4) => Datatype::Int32,
        ('i', 8) => Datatype::Int64,
        ('u', 1) => Datatype::Uint8,
        ('u', 2) => Datatype::Uint16,
        ('u', 4) => Datatype::Uint32,
        ('u', 8) => Datatype::Uint64,
        ('f', 2) => Datatype::Fp16,
        ('f', 4) => Datatype::Fp32,
        ('f', 8) => Datatype::Fp64,
        // NumPy knows no bfloat16: ml_dtypes saves it as two bytes without a meaning.
        ('V', 2) => Datatype::Bf16,
        ('S', n) => {
            let trimmed = data.chunks_exact(n.max(1)).map(|e| {
                let end = e.iter().rposition(|&b| b != 0).map_or(0, |i| i + 1);
                &e[..end]
            });
            return Ok((Datatype::Bytes, bytes_data(trimmed)?));
        }
        ('U', n) => {
            let all: Result<Vec<String>, String> = data.chunks_exact(n.max(1)).map(text).collect();
            let all = all?;
            let data = bytes_data(all.iter().map(String::as_bytes))?;
            return Ok((Datatype::Bytes, data));
        }
        _ => {
            return Err(format!(
                "NumPy datatype {kind}{size} has no counterpart in a capture"
            ));
        }
    };
    Ok((datatype, data))
}

/// One text of NumPy's: UTF-32 up to the padding.
fn text(element: &[u8]) -> Result<String, String> {
    let codes = element
        .chunks_exact(4)
        .map(|c| u32::from_le_bytes(c.try_into().expect("chunks_exact gives four bytes")));
    codes
        .take_while(|&c| c != 0)
        .map(|c| char::from_u32(c).ok_or_else(|| format!("U+{c:X} is no character")))
        .collect()
}

/// Column-major elements in row-major order.
fn c_order(data: &[u8], shape: &[i64], size: usize) -> Vec<u8> {
    let dims: Vec<usize> = shape
        .iter()
        .map(|&d| usize::try_from(d).unwrap_or(0))
        .collect();
    let mut stride = 1;
    let strides: Vec<usize> = dims
        .iter()
        .map(|&d| {
            let this = stride;
            stride *= d.max(1);
            this
        })
        .collect();
    let mut out = Vec::with_capacity(data.len());
    let mut at = vec![0; dims.len()];
    for _ in 0..data.len() / size.max(1) {
        let from: usize = at.iter().zip(&strides).map(|(i, s)| i * s).sum();
        out.extend_from_slice(&data[from * size..(from + 1) * size]);
        for axis in (0..dims.len()).rev() {
            at[axis] += 1;
            if at[axis] < dims[axis] {
                break;
            }
            at[axis] = 0;
        }
    }
    out
}
