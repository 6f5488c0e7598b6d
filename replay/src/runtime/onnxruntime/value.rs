//! A value of the C API. What `ort` makes for each of its own (an allocator, memory's description, its
//! type) takes as long as a small model.

use std::ptr::{self, NonNull};

use ort::memory::{Allocator, MemoryInfo};
use ort::sys::{ONNXTensorElementDataType, OrtValue};
use ort::{AsPointer, sys};

use super::capi::{check, slice};

/// A value, released when dropped.
#[derive(Debug)]
pub(super) struct Value(NonNull<OrtValue>);

impl Value {
    /// Owns what the library gave; `None` for null.
    ///
    /// # Safety
    /// `value` is null, or a live value that nobody else releases.
    #[expect(unsafe_code, reason = "values of the C API")]
    pub unsafe fn own(value: *mut OrtValue) -> Option<Self> {
        NonNull::new(value).map(Self)
    }

    /// A tensor over memory of somebody else.
    ///
    /// # Safety
    /// `data` is aligned for the element type and holds `bytes` bytes, as many as shape and element type
    /// make, which live as long as the value and are valid elements. They are never written to where the
    /// value is only an input.
    #[expect(unsafe_code, reason = "values of the C API")]
    pub unsafe fn over(
        memory: &MemoryInfo<'_>,
        data: *const u8,
        bytes: usize,
        shape: &[i64],
        element: ONNXTensorElementDataType,
    ) -> Result<Self, ort::Error> {
        let mut value = ptr::null_mut();
        // SAFETY: as the caller promises; the shape is read before the call returns.
        unsafe {
            check((ort::api().CreateTensorWithDataAsOrtValue)(
                memory.ptr(),
                data.cast_mut().cast(),
                bytes,
                shape.as_ptr(),
                shape.len(),
                element,
                &mut value,
            ))?;
            Self::made(value)
        }
    }

    /// A tensor of empty strings.
    #[expect(unsafe_code, reason = "values of the C API")]
    pub fn strings(shape: &[i64]) -> Result<Self, ort::Error> {
        let mut value = ptr::null_mut();
        let mut allocator = Allocator::default();
        // SAFETY: the default allocator lives as long as the library, and the shape is read before the
        // call returns.
        unsafe {
            check((ort::api().CreateTensorAsOrtValue)(
                allocator.ptr_mut(),
                shape.as_ptr(),
                shape.len(),
                ONNXTensorElementDataType::ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING,
                &mut value,
            ))?;
            Self::made(value)
        }
    }

    /// # Safety
    /// As [`Value::own`].
    #[expect(unsafe_code, reason = "values of the C API")]
    unsafe fn made(value: *mut OrtValue) -> Result<Self, ort::Error> {
        // SAFETY: as the caller promises.
        let value = unsafe { Self::own(value) };
        value.ok_or_else(|| ort::Error::new("the library made no value and named no reason"))
    }

    /// For calls that read.
    pub fn ptr(&self) -> *const OrtValue {
        self.0.as_ptr()
    }

    /// For calls that write.
    pub fn ptr_mut(&mut self) -> *mut OrtValue {
        self.0.as_ptr()
    }

    /// False for sequences, maps and other values that are no tensor.
    #[expect(unsafe_code, reason = "values of the C API")]
    pub fn is_tensor(&self) -> Result<bool, ort::Error> {
        let mut is = 0;
        // SAFETY: the value is live.
        unsafe { check((ort::api().IsTensor)(self.ptr(), &mut is))? };
        Ok(is != 0)
    }

    /// Element type and shape of a tensor.
    #[expect(unsafe_code, reason = "values of the C API")]
    pub fn described(&self) -> Result<(ONNXTensorElementDataType, &[i64]), ort::Error> {
        let mut element = ONNXTensorElementDataType::ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
        let (mut shape, mut rank) = (ptr::null(), 0);
        // SAFETY: the value is live; its shape lives as long as it does, and as it was, because nobody
        // else has it.
        unsafe {
            check((ort::api().GetTensorElementTypeAndShapeDataReference)(
                self.ptr(),
                &mut element,
                &mut shape,
                &mut rank,
            ))?;
            Ok((element, slice(shape, rank)))
        }
    }

    /// True where the processor can read a tensor's elements.
    #[expect(unsafe_code, reason = "values of the C API")]
    pub fn is_readable(&self) -> Result<bool, ort::Error> {
        let api = ort::api();
        let mut memory = ptr::null();
        let mut device = sys::OrtMemoryInfoDeviceType::OrtMemoryInfoDeviceType_CPU;
        // SAFETY: the value is live and a tensor, and owns the description of its memory.
        unsafe {
            check((api.GetTensorMemoryInfo)(self.ptr(), &mut memory))?;
            (api.MemoryInfoGetDeviceType)(memory, &mut device);
            let host = sys::OrtDeviceMemoryType::OrtDeviceMemoryType_HOST_ACCESSIBLE;
            // Pinned memory counts as the accelerator's.
            Ok(
                device == sys::OrtMemoryInfoDeviceType::OrtMemoryInfoDeviceType_CPU
                    || (api.MemoryInfoGetDeviceMemType)(memory) == host,
            )
        }
    }

    /// The elements of a tensor of numbers as they lie in memory.
    ///
    /// # Safety
    /// The tensor is readable, and its shape and element type make up `length` bytes.
    #[expect(unsafe_code, reason = "values of the C API")]
    pub unsafe fn bytes(&self, length: usize) -> Result<&[u8], ort::Error> {
        let mut data = ptr::null_mut();
        // SAFETY: as the caller promises; nothing writes while the value is borrowed. The pointer of an
        // empty tensor may be null.
        unsafe {
            check((ort::api().GetTensorMutableData)(
                self.0.as_ptr(),
                &mut data,
            ))?;
            Ok(slice(data.cast::<u8>().cast_const(), length))
        }
    }
}

impl Drop for Value {
    #[expect(unsafe_code, reason = "values of the C API")]
    fn drop(&mut self) {
        // SAFETY: it is ours alone, and this is its end.
        unsafe { (ort::api().ReleaseValue)(self.0.as_ptr()) }
    }
}
