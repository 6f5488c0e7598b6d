//! Which execution provider took which nodes, as the session itself tells.

use std::ptr;

use inferdiff_schemas::run::evidence::Placement;
use ort::AsPointer;
use ort::session::Session;

use super::capi::{check, slice, text};

/// Must be "1" for the session to remember its assignment.
pub(super) const CONFIG_KEY: &str = "session.record_ep_graph_assignment_info";

/// Nodes by provider, as they were assigned: after the optimisations that depend on no provider,
/// before those that do.
pub(super) fn read(session: &Session) -> Result<Vec<Placement>, ort::Error> {
    let mut placement: Vec<Placement> = Vec::new();
    for (provider, node) in assigned(session)? {
        match placement.iter_mut().find(|p| p.provider == provider) {
            Some(known) => known.nodes.push(node),
            None => placement.push(Placement {
                provider,
                nodes: vec![node],
            }),
        }
    }
    for provider in &mut placement {
        provider.nodes.sort();
    }
    placement.sort_by(|a, b| a.provider.cmp(&b.provider));
    Ok(placement)
}

#[expect(unsafe_code, reason = "ort does not wrap this part of the C API")]
fn assigned(session: &Session) -> Result<Vec<(String, String)>, ort::Error> {
    let api = ort::api();
    let mut out = Vec::new();
    let (mut groups, mut count) = (ptr::null(), 0);
    // SAFETY: these functions are in the API since 1.24, the oldest library that is loaded. The
    // arrays and strings that they hand out belong to the session, which outlives this function.
    unsafe {
        check((api.Session_GetEpGraphAssignmentInfo)(
            session.ptr(),
            &mut groups,
            &mut count,
        ))?;
        for &group in slice(groups, count) {
            let mut provider = ptr::null();
            check((api.EpAssignedSubgraph_GetEpName)(group, &mut provider))?;
            let (mut nodes, mut count) = (ptr::null(), 0);
            check((api.EpAssignedSubgraph_GetNodes)(
                group, &mut nodes, &mut count,
            ))?;
            for &node in slice(nodes, count) {
                let (mut name, mut operator) = (ptr::null(), ptr::null());
                check((api.EpAssignedNode_GetName)(node, &mut name))?;
                check((api.EpAssignedNode_GetOperatorType)(node, &mut operator))?;
                let name = text(name);
                // Names are optional in ONNX.
                let name = if name.is_empty() {
                    format!("({})", text(operator))
                } else {
                    name
                };
                out.push((text(provider), name));
            }
        }
    }
    Ok(out)
}
