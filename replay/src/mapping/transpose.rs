//! Axes in another order.

use bytes::Bytes;
use inferdiff_schemas::Tensor;

/// The tensor with axis `axes[i]` of it as axis `i`, as `numpy.transpose` orders them.
///
/// # Errors
/// `axes` is no order of the tensor's axes, elements of unequal size (BYTES), no data.
pub(super) fn transpose(tensor: Tensor, axes: &[usize]) -> Result<Tensor, String> {
    let rank = tensor.shape.len();
    if axes.len() != rank {
        return Err(format!(
            "transpose = {axes:?} orders {} axes, the tensor of shape {:?} has {rank}",
            axes.len(),
            tensor.shape
        ));
    }
    let size = tensor
        .datatype
        .size()
        .ok_or("BYTES have elements of unequal size and cannot be transposed")?;
    let data = tensor.data.as_ref().ok_or("its data was not kept")?;
    let dims: Vec<usize> = tensor
        .shape
        .iter()
        .map(|d| usize::try_from(*d).map_err(|_| format!("shape {:?}", tensor.shape)))
        .collect::<Result<_, _>>()?;
    // Steps of the source, in elements, along each of its axes.
    let mut steps = vec![1; rank];
    for axis in (1..rank).rev() {
        steps[axis - 1] = steps[axis] * dims[axis];
    }
    let out_dims: Vec<usize> = axes.iter().map(|a| dims[*a]).collect();
    let out_steps: Vec<usize> = axes.iter().map(|a| steps[*a]).collect();
    let elements: usize = dims.iter().product();
    let mut out = Vec::with_capacity(elements * size);
    let mut index = vec![0; rank];
    let mut at = 0;
    for _ in 0..elements {
        out.extend_from_slice(&data[at * size..(at + 1) * size]);
        // The next index, last axis first, and where it lies in the source.
        for axis in (0..rank).rev() {
            index[axis] += 1;
            at += out_steps[axis];
            if index[axis] < out_dims[axis] {
                break;
            }
            at -= out_steps[axis] * out_dims[axis];
            index[axis] = 0;
        }
    }
    Ok(Tensor {
        shape: axes.iter().map(|a| tensor.shape[*a]).collect(),
        data: Some(Bytes::from(out)),
        ..tensor
    })
}

/// That `axes` names each of its axes once.
///
/// # Errors
/// The sentence that says so.
pub(crate) fn check_axes(axes: &[usize]) -> Result<(), String> {
    let mut sorted = axes.to_vec();
    sorted.sort_unstable();
    if sorted.iter().enumerate().all(|(i, axis)| i == *axis) {
        Ok(())
    } else {
        Err(format!(
            "transpose = {axes:?} must name each axis from 0 to {} once",
            axes.len().saturating_sub(1)
        ))
    }
}

#[cfg(test)]
mod tests {
    use inferdiff_schemas::Datatype;

    use super::*;

    fn tensor(shape: &[i64], data: Vec<u8>) -> Tensor {
        Tensor::inline("x", Datatype::Uint8, shape.to_vec(), Bytes::from(data)).unwrap()
    }

    #[test]
    fn every_element_lands_where_its_index_says() {
        let (a, b, c) = (2, 3, 4);
        let source = tensor(&[2, 3, 4], (0..24).collect());
        for axes in [[0, 1, 2], [0, 2, 1], [2, 0, 1], [2, 1, 0], [1, 2, 0]] {
            let turned = transpose(source.clone(), &axes).unwrap();
            let dims = [a, b, c];
            let out = axes.map(|axis| dims[axis]);
            assert_eq!(turned.shape, out.map(|d| d as i64));
            let data = turned.data.unwrap();
            for i in 0..out[0] {
                for j in 0..out[1] {
                    for k in 0..out[2] {
                        let mut index = [0; 3];
                        for (axis, value) in axes.iter().zip([i, j, k]) {
                            index[*axis] = value;
                        }
                        let expected = (index[0] * b + index[1]) * c + index[2];
                        let found = data[(i * out[1] + j) * out[2] + k];
                        assert_eq!(usize::from(found), expected, "{axes:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn scalars_and_empty_tensors_stay_what_they_are_and_wrong_orders_are_refused() {
        assert_eq!(
            transpose(tensor(&[], vec![7]), &[]).unwrap().data.unwrap(),
            [7u8][..]
        );
        let empty = transpose(tensor(&[0, 3], Vec::new()), &[1, 0]).unwrap();
        assert_eq!((empty.shape, empty.data.unwrap().len()), (vec![3, 0], 0));
        let why = transpose(tensor(&[2, 3], (0..6).collect()), &[0]).unwrap_err();
        assert!(why.contains("orders 1 axes"), "{why}");
        assert!(check_axes(&[1, 0, 2]).is_ok());
        assert!(check_axes(&[1, 1]).is_err() && check_axes(&[1, 2]).is_err());
    }
}
