//! Several exchanges as one request, and its answer cut apart again.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use inferdiff_schemas::{Exchange, Tensor};

/// Rows of the batch axis; `None` where the inputs do not agree on one, or some are not there.
pub(super) fn rows(exchange: &Exchange) -> Option<usize> {
    let inputs = exchange.inputs.as_deref().filter(|i| !i.is_empty())?;
    let of = |t: &Tensor| t.data.as_ref().and_then(|_| t.shape.first().copied());
    let first = of(&inputs[0])?;
    let same = inputs.iter().all(|t| of(t) == Some(first));
    usize::try_from(first).ok().filter(|&n| same && n > 0)
}

/// Groups of two to `most` exchanges whose inputs differ in nothing but their rows.
pub(super) fn groups(exchanges: &[Exchange], most: usize) -> Vec<Vec<usize>> {
    let mut by_shape: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (i, exchange) in exchanges.iter().enumerate() {
        if rows(exchange).is_none() {
            continue;
        }
        let inputs = exchange.inputs.as_deref().unwrap_or_default();
        let parts = inputs.iter().map(|t| {
            let rest = t.shape.get(1..).unwrap_or_default();
            format!("{:?} {} {rest:?}", t.name, t.datatype)
        });
        let key = parts.collect::<Vec<_>>().join(";");
        by_shape.entry(key).or_default().push(i);
    }
    let groups = by_shape.values().flat_map(|all| all.chunks(most));
    groups
        .filter(|g| g.len() > 1)
        .map(<[usize]>::to_vec)
        .collect()
}

/// The inputs of a group, one behind the other along the batch axis.
pub(super) fn merge(group: &[&Exchange]) -> Vec<Tensor> {
    let first = group[0].inputs.as_deref().unwrap_or_default();
    let total: usize = group.iter().filter_map(|e| rows(e)).sum();
    let joined = first.iter().enumerate().map(|(i, t)| {
        let mut data = BytesMut::new();
        for exchange in group {
            let input = exchange.inputs.as_deref().and_then(|all| all.get(i));
            data.extend_from_slice(input.and_then(|t| t.data.as_deref()).unwrap_or_default());
        }
        let mut joined = t.clone();
        joined.shape[0] = i64::try_from(total).unwrap_or(i64::MAX);
        joined.data = Some(data.freeze());
        joined
    });
    joined.collect()
}

/// The answer to a group, cut into those of its exchanges.
///
/// # Errors
/// Why it cannot be cut.
pub(super) fn split(answer: &[Tensor], rows: &[usize]) -> Result<Vec<Vec<Tensor>>, String> {
    let total: usize = rows.iter().sum();
    let mut out: Vec<Vec<Tensor>> = rows.iter().map(|_| Vec::new()).collect();
    for tensor in answer {
        let name = &tensor.name;
        let found = tensor.shape.first().copied().unwrap_or(0);
        if usize::try_from(found) != Ok(total) {
            return Err(format!(
                "output `{name}` has {found} rows for {total} of the request"
            ));
        }
        let data = tensor
            .data
            .as_ref()
            .filter(|_| tensor.datatype.size().is_some());
        let data: &Bytes = data.ok_or_else(|| format!("output `{name}` is no rows of numbers"))?;
        let size = data.len() / total;
        let mut from = 0;
        for (part, rows) in out.iter_mut().zip(rows) {
            let mut cut = tensor.clone();
            cut.shape[0] = i64::try_from(*rows).unwrap_or(i64::MAX);
            cut.data = Some(data.slice(from * size..(from + rows) * size));
            from += rows;
            part.push(cut);
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use inferdiff_schemas::Datatype;
    use ulid::Ulid;

    use super::*;

    fn exchange(seq: u64, rows: usize, width: usize) -> Exchange {
        let data: Vec<u8> = (0..rows * width)
            .map(|i| seq as u8 * 16 + i as u8)
            .collect();
        let t = Tensor::inline(
            "x",
            Datatype::Uint8,
            vec![rows as i64, width as i64],
            data.into(),
        );
        Exchange {
            inputs: Some(vec![t.unwrap()]),
            ..Exchange::new(Ulid::nil(), seq)
        }
    }

    #[test]
    fn what_is_merged_comes_apart_as_it_was() {
        let all = [
            exchange(0, 1, 2),
            exchange(1, 3, 2),
            exchange(2, 2, 3),
            exchange(3, 2, 2),
        ];
        assert_eq!(groups(&all, 8), [vec![0, 1, 3]]);
        assert_eq!(groups(&all, 2), [vec![0, 1]]);
        let group = [&all[0], &all[1], &all[3]];
        let merged = merge(&group);
        assert_eq!(merged[0].shape, [6, 2]);
        let rows: Vec<usize> = group.iter().map(|e| rows(e).unwrap()).collect();
        for (part, e) in split(&merged, &rows).unwrap().iter().zip(group) {
            assert_eq!(Some(part), e.inputs.as_ref());
        }
        assert!(
            split(&merged, &[2, 2])
                .unwrap_err()
                .contains("6 rows for 4")
        );
    }

    #[test]
    fn inputs_without_a_common_batch_axis_have_no_rows() {
        let mut e = exchange(0, 2, 2);
        let mut other = e.inputs.as_ref().unwrap()[0].clone();
        other.shape = vec![4];
        e.inputs.as_mut().unwrap().push(other);
        assert_eq!(rows(&e), None);
        e.inputs = Some(Vec::new());
        assert_eq!(rows(&e), None);
    }
}
