//! Planted changes are named, and nothing else is.

use bytes::Bytes;
use half::f16;
use inferdiff_schemas::{Datatype, Tensor};
use proptest::prelude::*;

use super::explain::explain;
use super::looks::Looks;

fn fp32(shape: &[i64], values: &[f32]) -> Tensor {
    let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    Tensor::inline("x", Datatype::Fp32, shape.to_vec(), Bytes::from(data)).unwrap()
}

fn found(a: &Tensor, b: &Tensor) -> Vec<Looks> {
    let mut findings = explain(std::slice::from_ref(a), std::slice::from_ref(b));
    assert_eq!(findings.len(), 1, "{findings:?}");
    findings.remove(0).looks.0
}

/// A picture [1, 3, 4, 5] without symmetries.
fn picture() -> impl Strategy<Value = Vec<f32>> {
    let pixel = 0u8..=255;
    prop::collection::vec(pixel, 60).prop_map(|v| {
        let values: Vec<f32> = v.into_iter().map(f32::from).collect();
        values
            .iter()
            .zip(0u8..)
            .map(|(v, i)| v + f32::from(i) / 64.0)
            .collect()
    })
}

proptest! {
    #[test]
    fn equal_tensors_give_no_finding(v in picture()) {
        let t = fp32(&[1, 3, 4, 5], &v);
        prop_assert!(explain(std::slice::from_ref(&t), std::slice::from_ref(&t)).is_empty());
    }

    #[test]
    fn a_scale_is_found_with_its_size(v in picture(), k in 0.001f32..0.9, o in -2f32..2.0) {
        let b: Vec<f32> = v.iter().map(|v| v * k + o).collect();
        match found(&fp32(&[1, 3, 4, 5], &v), &fp32(&[1, 3, 4, 5], &b)).as_slice() {
            [Looks::Scaling { factor, offset, axis: None }] => {
                prop_assert!((factor[0] - f64::from(k)).abs() < 1e-4);
                prop_assert!((offset[0] - f64::from(o)).abs() < 1e-3);
            }
            other => prop_assert!(false, "{other:?}"),
        }
    }

    #[test]
    fn a_scale_per_channel_is_found_with_its_axis(v in picture()) {
        let (mean, std) = ([123.7f32, 116.3, 103.5], [58.4f32, 57.1, 57.4]);
        let b: Vec<f32> = v.iter().enumerate().map(|(i, v)| (v - mean[i / 20]) / std[i / 20]).collect();
        let looks = found(&fp32(&[1, 3, 4, 5], &v), &fp32(&[1, 3, 4, 5], &b));
        let named = matches!(looks.as_slice(), [Looks::Scaling { axis: Some(1), .. }]);
        prop_assert!(named, "{:?}", looks);
    }

    #[test]
    fn exchanged_axes_and_channels_are_told_apart(v in picture()) {
        let a = fp32(&[1, 3, 4, 5], &v);
        let at = |c: usize, y: usize, x: usize| v[c * 20 + y * 5 + x];
        let last: Vec<f32> = (0..60).map(|i| at(i % 3, i / 15, i / 3 % 5)).collect();
        let looks = found(&a, &fp32(&[1, 4, 5, 3], &last));
        prop_assert_eq!(looks, vec![Looks::Layout { axes: vec![0, 2, 3, 1] }]);
        let bgr: Vec<f32> = (0..60).map(|i| at(2 - i / 20, i / 5 % 4, i % 5)).collect();
        prop_assert_eq!(found(&a, &fp32(&[1, 3, 4, 5], &bgr)), vec![Looks::ChannelOrder { axis: 1 }]);
        let scaled: Vec<f32> = last.iter().map(|v| v / 255.0).collect();
        let looks = found(&a, &fp32(&[1, 4, 5, 3], &scaled));
        let named = matches!(looks.as_slice(), [Looks::Layout { .. }, Looks::Scaling { .. }]);
        prop_assert!(named, "{:?}", looks);
    }

    #[test]
    fn a_cast_is_found_whether_or_not_the_datatype_shows_it(v in prop::collection::vec(-9f32..9.0, 64)) {
        let half: Vec<f32> = v.iter().map(|v| f16::from_f32(*v).to_f32()).collect();
        prop_assume!(half != v);
        let a = fp32(&[64], &v);
        let cast = vec![Looks::Cast { through: "FP16", of: 'b' }];
        prop_assert_eq!(found(&a, &fp32(&[64], &half)), cast.clone());
        let data: Vec<u8> = v.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect();
        let b = Tensor::inline("x", Datatype::Fp16, vec![64], data.into()).unwrap();
        prop_assert_eq!(found(&a, &b), cast);
        let wide: Vec<u8> = v.iter().flat_map(|v| f64::from(*v).to_le_bytes()).collect();
        let b = Tensor::inline("x", Datatype::Fp64, vec![64], wide.into()).unwrap();
        prop_assert_eq!(found(&a, &b), vec![Looks::Datatype]);
    }

    #[test]
    fn one_flipped_bit_is_found(v in picture(), at in 0usize..60, bit in 0u32..32) {
        let mut b = v.clone();
        b[at] = f32::from_bits(b[at].to_bits() ^ (1 << bit));
        let a = fp32(&[1, 3, 4, 5], &v);
        let findings = explain(&[a], &[fp32(&[1, 3, 4, 5], &b)]);
        prop_assert_eq!(&findings[0].looks.0, &vec![Looks::BitFlip { bit }]);
        prop_assert_eq!(findings[0].differing, Some(1));
        let first = findings[0].first.as_ref().unwrap();
        prop_assert_eq!(&first.index, &vec![0, at / 20, at / 5 % 4, at % 5]);
        prop_assert_eq!(&first.a, &format!("{:?}", v[at]));
    }

    #[test]
    fn padding_is_found_inside_and_outside_of_the_shape(v in picture(), rows in 1usize..4) {
        let a = fp32(&[12, 5], &v);
        let mut longer = v.clone();
        longer.extend(std::iter::repeat_n(0.0, 5 * rows));
        let pad = |from| vec![Looks::Padding { axis: 0, from, fill: "0.0".into(), of: 'b' }];
        let shape = [12 + i64::try_from(rows).unwrap(), 5];
        prop_assert_eq!(found(&a, &fp32(&shape, &longer)), pad(12));
        let mut cut = v.clone();
        cut[60 - 5 * rows..].fill(0.0);
        prop_assert_eq!(found(&a, &fp32(&[12, 5], &cut)), pad(12 - rows));
    }

    #[test]
    fn unrelated_numbers_are_not_explained_away(v in picture(), w in prop::collection::vec(-1f32..1.0, 60)) {
        let looks = found(&fp32(&[60], &v), &fp32(&[60], &w));
        prop_assert_eq!(looks, vec![Looks::Unknown]);
    }
}

#[test]
fn names_rows_bytes_and_text() {
    let a = fp32(&[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 7.0]);
    let b = fp32(&[3, 2], &[5.0, 7.0, 1.0, 2.0, 3.0, 4.0]);
    assert_eq!(found(&a, &b), [Looks::RowOrder]);
    assert_eq!(
        found(&a, &fp32(&[6], &[1.0, 2.0, 3.0, 4.0, 5.0, 7.0])),
        [Looks::Reshape]
    );
    let big: Vec<u8> = [1f32, 2.0, 3.0, 4.0, 5.0, 7.0]
        .iter()
        .flat_map(|v| v.to_be_bytes())
        .collect();
    let big = Tensor::inline("x", Datatype::Fp32, vec![3, 2], big.into()).unwrap();
    assert_eq!(found(&a, &big), [Looks::ByteOrder]);

    let mut other = a.clone();
    other.name = "y".into();
    let renamed = explain(std::slice::from_ref(&a), &[other]);
    assert_eq!(renamed[0].looks.0, [Looks::Renamed { to: "y".into() }]);
    let missing = explain(std::slice::from_ref(&a), &[]);
    assert_eq!(missing[0].looks.0, [Looks::Missing { only: 'a' }]);
    let missing = explain(&[], &[a]);
    assert_eq!(missing[0].looks.0, [Looks::Missing { only: 'b' }]);

    let text = |words: &[&str]| {
        let mut data = Vec::new();
        for w in words {
            data.extend_from_slice(&u32::try_from(w.len()).unwrap().to_le_bytes());
            data.extend_from_slice(w.as_bytes());
        }
        let n = i64::try_from(words.len()).unwrap();
        Tensor::inline("x", Datatype::Bytes, vec![n], data.into()).unwrap()
    };
    let findings = explain(&[text(&["a", "bc", "d"])], &[text(&["a", "bX", "d"])]);
    let first = findings[0].first.as_ref().unwrap();
    assert_eq!(
        (first.index.as_slice(), first.a.as_str(), first.b.as_str()),
        (&[1][..], "\"bc\"", "\"bX\"")
    );
    assert_eq!(findings[0].looks.0, [Looks::Unknown]);
}
