//! Names that ONNX Runtime would ignore in silence where they are wrong, checked before it sees
//! them.

use super::options::OnnxOptions;
use super::providers;

/// The longest value that a session configuration entry takes; the list of disabled passes is one.
const LONGEST_VALUE: usize = 8192;

/// Rewrite rules inside `Level1_RuleBasedTransformer`: they can be disabled one by one, but the log
/// names only the transformer. From the strings of ONNX Runtime 1.24 to 1.32.
pub(super) const RULES: [&str; 22] = [
    "CastChainElimination",
    "CastElimination",
    "ClipQuantRewrite",
    "ConvAddFusion",
    "ConvBNFusion",
    "ConvMulFusion",
    "DivMulFusion",
    "EliminateDropout",
    "EliminateIdentity",
    "EliminateSlice",
    "ExpandElimination",
    "FuseReluClip",
    "GemmSumFusion",
    "GemmTransposeFusion",
    "LabelEncoderFusion",
    "MatMul_BatchNormalization_Fusion",
    "NoopElimination",
    "NotWhereFusion",
    "Pad_Fusion",
    "PreShapeNodeElimination",
    "ReluQuantRewrite",
    "UnsqueezeElimination",
];

/// The transformer that the rules live in.
pub(super) const RULE_TRANSFORMER: &str = "Level1_RuleBasedTransformer";

/// Configuration entries that a ladder says with a key of its own, or that inferdiff needs itself.
const RESERVED: [(&str, &str); 12] = [
    (
        "optimization.disable_specified_optimizers",
        "`disabled_passes`",
    ),
    ("session.disable_prepacking", "`prepacking`"),
    ("session.enable_cpu_mem_arena", "`memory_optimization`"),
    ("session.enable_mem_pattern", "`memory_optimization`"),
    ("session.graph_optimization_level", "`graph_optimization`"),
    ("session.intra_op_num_threads", "`threads`"),
    ("session.use_deterministic_compute", "`deterministic`"),
    ("session.use_per_session_threads", ""),
    ("session.log_id", ""),
    ("session.log_severity_level", ""),
    ("session.log_verbosity_level", ""),
    ("session.record_ep_graph_assignment_info", ""),
];

/// Entries of `onnxruntime_session_options_config_keys.h` that somebody may want: not all there
/// are, so an unknown one is only refused where it looks like a slip of one of these.
const CONFIG_KEYS: [&str; 32] = [
    "ep.context_enable",
    "ep.context_file_path",
    "memory.enable_memory_arena_shrinkage",
    "optimization.constant_folding_max_output_size_in_bytes",
    "optimization.enable_cast_chain_elimination",
    "optimization.enable_gelu_approximation",
    "optimization.minimal_build_optimizations",
    "session.allow_released_opsets_only",
    "session.disable_aot_function_inlining",
    "session.disable_cpu_ep_fallback",
    "session.disable_double_qdq_remover",
    "session.disable_qdq_constant_folding",
    "session.disable_quant_qdq",
    "session.dynamic_block_base",
    "session.enable_dq_matmulnbits_fusion",
    "session.enable_quant_qdq_cleanup",
    "session.force_spinning_stop",
    "session.graph_optimizations_loop_level",
    "session.inter_op.allow_spinning",
    "session.intra_op.allow_spinning",
    "session.intra_op_thread_affinities",
    "session.model_external_initializers_file_folder_path",
    "session.name_based_layer_assignment",
    "session.qdq_matmulnbits_accuracy_level",
    "session.qdq_matmulnbits_block_size",
    "session.qdqisint8allowed",
    "session.set_denormal_as_zero",
    "session.strict_shape_type_inference",
    "session.use_device_allocator_for_initializers",
    "session.use_env_allocators",
    "session.use_ort_model_bytes_directly",
    "session.x64quantprecision",
];

/// Everything about a stage that can be said without opening it.
///
/// # Errors
/// A sentence that names what is wrong and the nearest known name.
pub(super) fn check(options: &OnnxOptions) -> Result<(), String> {
    for provider in &options.providers {
        providers::check(provider)?;
    }
    options.config.keys().try_for_each(|key| config_key(key))?;
    for name in &options.disabled_passes {
        // `;` separates names in the one value that all of them travel in.
        if name.is_empty() || name.contains(|c: char| c == ';' || c == ',' || c.is_whitespace()) {
            return Err(format!(
                "disabled_passes: `{name}` is no name of one pass; write [\"A\", \"B\"]"
            ));
        }
    }
    if options.disabled_passes.join(";").len() > LONGEST_VALUE {
        return Err(format!(
            "disabled_passes: ONNX Runtime takes {LONGEST_VALUE} characters of names; take a lower \
             graph_optimization instead"
        ));
    }
    Ok(())
}

fn config_key(key: &str) -> Result<(), String> {
    if let Some((_, ladder)) = RESERVED.iter().find(|(reserved, _)| *reserved == key) {
        return Err(if ladder.is_empty() {
            format!("config: `{key}` is set by inferdiff itself")
        } else {
            format!("config: say `{key}` with {ladder}")
        });
    }
    if CONFIG_KEYS.contains(&key) {
        return Ok(());
    }
    match CONFIG_KEYS
        .iter()
        .find(|known| strsim::damerau_levenshtein(known, key) <= 2)
    {
        Some(known) => Err(format!(
            "config: ONNX Runtime would ignore `{key}` in silence; did you mean `{known}`?"
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_and_keys_that_have_a_ladder_key_are_refused() {
        assert_eq!(config_key("session.set_denormal_as_zero"), Ok(()));
        assert_eq!(config_key("ep.somebody.elses_key"), Ok(()));
        let slip = config_key("optimisation.enable_gelu_approximation").unwrap_err();
        assert!(
            slip.contains("did you mean `optimization.enable_gelu_approximation`?"),
            "{slip}"
        );
        let own = config_key("session.disable_prepacking").unwrap_err();
        assert!(own.contains("`prepacking`"), "{own}");
        assert!(config_key("session.log_id").is_err());
    }
}
