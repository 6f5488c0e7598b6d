//! Profiles as runtimes read them.

use std::fmt::Write;

use super::{Profile, Range};

/// Paddle Inference's `shape_range_info.pbtxt`: text format of
/// `paddle.inference.proto.ShapeRangeInfos`, sorted by name; a 0-D tensor is `[1]`, as Paddle
/// itself records it. Value ranges are left out: they matter for shape tensors only, which are not
/// told from short data by a recorder.
pub fn paddle(profile: &Profile) -> String {
    let mut out = String::new();
    for (name, range) in &profile.inputs {
        out += "shape_range_info {\n";
        let _ = writeln!(out, "  name: \"{}\"", escaped(name));
        let scalar = [1];
        for (field, shape) in [
            ("min_shape", &range.min),
            ("max_shape", &range.max),
            ("opt_shape", &range.opt),
        ] {
            let dims = if shape.is_empty() { &scalar[..] } else { shape };
            for d in dims {
                let _ = writeln!(out, "  {field}: {d}");
            }
        }
        out += "}\n";
    }
    out
}

/// Options of ONNX Runtime's TensorRT provider, one `key=value` a line.
pub fn onnxruntime(profile: &Profile) -> String {
    each(profile, |which, list| {
        format!("trt_profile_{which}_shapes={list}\n")
    })
}

/// Flags of `trtexec`, in one line.
pub fn trtexec(profile: &Profile) -> String {
    let flags = each(profile, |which, list| format!("--{which}Shapes={list} "));
    format!("{}\n", flags.trim_end())
}

fn each(profile: &Profile, line: impl Fn(&str, &str) -> String) -> String {
    type Pick = fn(&Range) -> &Vec<i64>;
    let bounds: [(&str, Pick); 3] = [
        ("min", |r| &r.min),
        ("opt", |r| &r.opt),
        ("max", |r| &r.max),
    ];
    bounds
        .into_iter()
        .map(|(which, pick)| {
            let shapes = profile.inputs.iter().map(|(name, range)| {
                let dims: Vec<_> = pick(range).iter().map(ToString::to_string).collect();
                // 0-D inputs have no dynamic dimension to give a range for.
                format!(
                    "{name}:{}",
                    if dims.is_empty() {
                        "1".to_owned()
                    } else {
                        dims.join("x")
                    }
                )
            });
            line(which, &shapes.collect::<Vec<_>>().join(","))
        })
        .collect()
}

fn escaped(name: &str) -> String {
    name.replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn profile() -> Profile {
        let range = |min: &[i64], opt: &[i64], max: &[i64]| Range {
            min: min.to_vec(),
            opt: opt.to_vec(),
            max: max.to_vec(),
        };
        let inputs = BTreeMap::from([
            ("mask".to_owned(), range(&[1, 4], &[2, 8], &[4, 16])),
            ("a\"b".to_owned(), range(&[], &[], &[])),
        ]);
        Profile {
            inputs,
            requests: 7,
        }
    }

    #[test]
    fn golden_texts() {
        assert_eq!(
            paddle(&profile()),
            "shape_range_info {\n  name: \"a\\\"b\"\n  min_shape: 1\n  max_shape: 1\n  opt_shape: 1\n}\n\
             shape_range_info {\n  name: \"mask\"\n  min_shape: 1\n  min_shape: 4\n  max_shape: 4\n  \
             max_shape: 16\n  opt_shape: 2\n  opt_shape: 8\n}\n"
        );
        assert_eq!(
            onnxruntime(&profile()),
            "trt_profile_min_shapes=a\"b:1,mask:1x4\ntrt_profile_opt_shapes=a\"b:1,mask:2x8\n\
             trt_profile_max_shapes=a\"b:1,mask:4x16\n"
        );
        assert_eq!(
            trtexec(&profile()),
            "--minShapes=a\"b:1,mask:1x4 --optShapes=a\"b:1,mask:2x8 --maxShapes=a\"b:1,mask:4x16\n"
        );
    }
}
