//! What a run keeps of its requests comes back as it was kept.

#![allow(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::path::Path;

use inferdiff_schemas::run::requests::{RequestColumns, RequestReader, RequestRow, RequestWriter};
use proptest::prelude::*;
use ulid::Ulid;

fn written(path: &Path, rows: &[RequestRow]) -> Vec<RequestRow> {
    let mut writer = RequestWriter::create(path).unwrap();
    rows.iter().for_each(|row| writer.push(row).unwrap());
    assert!(!path.exists(), "it is there before it is whole");
    writer.commit().unwrap();
    read(path, RequestColumns::All)
}

fn read(path: &Path, columns: RequestColumns) -> Vec<RequestRow> {
    let rows = RequestReader::open(path, columns).unwrap();
    rows.map(Result::unwrap).collect()
}

fn row(seq: u64) -> RequestRow {
    RequestRow {
        recorder: Ulid::from_parts(seq / 5000, 1),
        seq,
        client_request_id: Some(format!("request {seq}")),
        input_digest: Some([seq.to_le_bytes()[0]; 16]),
        model: Some("m".to_owned()),
        model_version: None,
        request_headers: "[]".to_owned(),
        sample_rate: 0.5,
        arrived_at_ns: 1_700_000_000_000_000_000,
        shapes: "x[1,64]".to_owned(),
        sequence_id: None,
    }
}

prop_compose! {
    fn any_row()(
        (recorder, seq, arrived_at_ns) in (0..3_u64, any::<u64>(), any::<i64>()),
        client_request_id in prop::option::of(".{0,9}"),
        input_digest in any::<Option<[u8; 16]>>(),
        (model, model_version) in (prop::option::of("[ab]"), prop::option::of(".?")),
        (request_headers, shapes) in (".{0,9}", "[xy]?"),
        sample_rate in prop_oneof![Just(1.0), 0.0..1.0],
        sequence_id in prop::option::of("[0-9]"),
    ) -> RequestRow {
        RequestRow {
            recorder: Ulid::from_parts(recorder, 1),
            seq,
            client_request_id,
            input_digest,
            model,
            model_version,
            request_headers,
            sample_rate,
            arrived_at_ns,
            shapes,
            sequence_id,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_requests_come_back(rows in prop::collection::vec(any_row(), 0..30)) {
        let dir = tempfile::tempdir().unwrap();
        prop_assert_eq!(written(&dir.path().join("r.parquet"), &rows), rows);
    }
}

#[test]
fn more_requests_than_a_row_group_holds_come_back_whole_or_in_part() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("r.parquet");
    let rows: Vec<_> = (0..20_000).map(row).collect();
    assert!(written(&path, &rows) == rows);
    let keys = read(&path, RequestColumns::Ids);
    let same = |(a, b): (&RequestRow, &RequestRow)| {
        (a.recorder, a.seq) == (b.recorder, b.seq) && a.client_request_id == b.client_request_id
    };
    assert!(keys.len() == rows.len() && keys.iter().zip(&rows).all(same));
}

#[test]
fn long_headers_end_a_row_group() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("r.parquet");
    let rows: Vec<_> = (0..40)
        .map(|seq| RequestRow {
            request_headers: format!("{seq}").repeat(300_000),
            ..row(seq)
        })
        .collect();
    assert!(written(&path, &rows) == rows);
    let file = std::fs::File::open(&path).unwrap();
    let groups = parquet::file::reader::FileReader::num_row_groups(
        &parquet::file::serialized_reader::SerializedFileReader::new(file).unwrap(),
    );
    assert!(groups > 1, "{groups}");
}
