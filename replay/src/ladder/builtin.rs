//! Ladders that come with inferdiff. `ladder show` prints exactly what runs.

/// Name and one-line description of each.
pub const BUILTIN: [(&str, &str); 1] = [(
    "onnxruntime-cpu",
    "ONNX Runtime on the CPU: off, prepacking, memory, graph levels",
)];

/// The text of a built-in ladder.
pub fn text(name: &str) -> Option<&'static str> {
    match name {
        "onnxruntime-cpu" => Some(include_str!("onnxruntime-cpu.toml")),
        _ => None,
    }
}
