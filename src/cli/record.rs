//! `inferdiff record`.
use clap::Args;
/// x
#[derive(Args)]
pub struct RecordArgs {}
/// x
pub fn run(_: RecordArgs) -> super::Ended {
    Ok(0)
}
