//! Ladders that come with inferdiff. `ladder show` prints exactly what runs.

/// Name and one-line description of each.
pub const BUILTIN: [(&str, &str); 5] = [
    (
        "onnxruntime-cpu",
        "ONNX Runtime on the CPU: off, prepacking, memory, graph levels",
    ),
    (
        "onnxruntime-openvino",
        "ONNX Runtime with OpenVINO: the other library, f32, f16, bf16, its own choice",
    ),
    (
        "paddle-cpu",
        "Paddle on the CPU: off, training forward pass, memory, IR, oneDNN, bf16, OpenVINO",
    ),
    (
        "paddle-gpu",
        "Paddle on a GPU: off, memory, IR, fp16, against the CPU",
    ),
    (
        "paddle-tensorrt",
        "Paddle with TensorRT: IR, fp32, fp16, int8, against the CPU",
    ),
];

/// The text of a built-in ladder.
pub fn text(name: &str) -> Option<&'static str> {
    match name {
        "onnxruntime-cpu" => Some(include_str!("onnxruntime-cpu.toml")),
        "onnxruntime-openvino" => Some(include_str!("onnxruntime-openvino.toml")),
        "paddle-cpu" => Some(include_str!("paddle-cpu.toml")),
        "paddle-gpu" => Some(include_str!("paddle-gpu.toml")),
        "paddle-tensorrt" => Some(include_str!("paddle-tensorrt.toml")),
        _ => None,
    }
}
