//! Open Inference Protocol v2, REST: a request and its answer into the row.

use super::row::{Decoded, Side, put_inputs};
use super::{
    BinaryHeader, Models, WireError, binary_header, decode_request, decode_response, raw_input,
};
use crate::exchange::Exchange;

fn header(side: Side<'_>) -> Result<BinaryHeader, WireError> {
    binary_header(
        side.header("inference-header-content-length"),
        side.header("content-type"),
    )
}

pub(super) fn request(
    side: Side<'_>,
    models: &Models,
    row: &mut Exchange,
) -> Result<Decoded, WireError> {
    let body = side.body()?;
    let header = header(side)?;
    if header == BinaryHeader::RawInput {
        let model = row.model.as_deref().unwrap_or_default();
        let signature = models.oip(model, row.model_version.as_deref());
        put_inputs(row, vec![raw_input::decode(&body, signature)?]);
        return Ok(Decoded::Whole);
    }
    let request = decode_request(&body, header)?;
    row.client_request_id = request
        .id
        .filter(|id| !id.is_empty())
        .or(row.client_request_id.take());
    row.sequence_id = request.sequence_id;
    row.parameters = request.parameters;
    row.requested_outputs = request
        .outputs
        .map(|outputs| outputs.into_iter().map(|o| o.name).collect());
    put_inputs(row, request.inputs);
    Ok(Decoded::Whole)
}

pub(super) fn response(side: Side<'_>, row: &mut Exchange) -> Result<Decoded, WireError> {
    let response = decode_response(&side.body()?, header(side)?)?;
    row.model_version = response.model_version.or(row.model_version.take());
    row.outputs = Some(response.outputs);
    Ok(Decoded::Whole)
}
