//! A stage to its end, whatever its processes die of: who is suspected is replayed alone before
//! anyone is named.

use inferdiff_schemas::run::manifest::{StageState, StageStatus};
use inferdiff_schemas::run::{read_json, write_json};

use super::Task;
use super::orchestrate::RunError;
use super::process::{Death, Ended, Stages};
use super::resolved::{read_faults, write_faults};

/// A stage is given up after so many exchanges have killed its process.
const MOST_FAULTS: usize = 64;
/// A stage is given up after so many deaths that no exchange alone explains.
const MOST_UNEXPLAINED: usize = 8;
/// A stage is given up after so many deaths in a row outside of any exchange: one may come from
/// outside.
const MOST_OUTSIDE: usize = 3;
/// So many exchanges before the last one are suspected: an engine may die late.
const MOST_SUSPECTS: usize = 8;

/// Runs a stage to its end. A process that dies is started again and told to name each exchange
/// before it replays it. Those in flight when it dies then are replayed alone, the last one first;
/// the one that dies alone is named in `faults.json` and left out, the stage goes on.
///
/// # Errors
/// [`RunError`]; that the stage itself fails is in its status.
pub(super) fn run(stages: &mut Stages<'_>) -> Result<StageStatus, RunError> {
    let mut faults = read_faults(stages.layout, stages.stage)?;
    let (mut careful, mut unexplained, mut outside) = (false, 0, 0);
    let mut deaths = Vec::new();
    loop {
        let death = match stages.once(&Task::Chunks { careful })? {
            Ended::Finished => return finished(stages, deaths),
            Ended::Died(death) => death,
        };
        deaths.push(death.how.clone());
        if death.committed {
            (unexplained, outside) = (0, 0);
        }
        // Without `careful` nobody has said yet what was in flight.
        outside = if death.in_flight.is_empty() && careful {
            outside + 1
        } else {
            0
        };
        let given_up = if faults.len() >= MOST_FAULTS {
            Some(format!(
                "{MOST_FAULTS} exchanges have killed its process; the last"
            ))
        } else if unexplained >= MOST_UNEXPLAINED {
            Some("its process keeps dying, of no exchange alone; the last".to_owned())
        } else if outside >= MOST_OUTSIDE {
            Some("the stage's process died outside of any exchange".to_owned())
        } else {
            None
        };
        if let Some(why) = given_up {
            return give_up(stages, format!("{why}: {}", death.how), deaths);
        }
        // From now on it costs a line per exchange to know at once.
        careful = true;
        if death.in_flight.is_empty() {
            continue;
        }
        match named(stages, &death)? {
            Some((id, how)) => {
                faults.insert(id, format!("the stage's process died on it: {how}"));
                write_faults(stages.layout, stages.stage, &faults)?;
            }
            None => unexplained += 1,
        }
    }
}

/// The first of the suspects that a process dies of which replays nothing else. Those that live on
/// have their answer then, so that the stage gets further next time.
fn named(stages: &mut Stages<'_>, death: &Death) -> Result<Option<(String, String)>, RunError> {
    let Some(chunk) = &death.chunk else {
        return Ok(None);
    };
    for id in death.in_flight.iter().rev().take(MOST_SUSPECTS) {
        let (chunk, id) = (chunk.clone(), id.clone());
        let task = Task::Alone {
            chunk,
            id: id.clone(),
        };
        match stages.once(&task)? {
            // Not on the exchange: something else killed it, before or after.
            Ended::Died(death) if death.in_flight.is_empty() => return Ok(None),
            Ended::Died(death) => return Ok(Some((id, death.how))),
            Ended::Finished => {}
        }
    }
    Ok(None)
}

fn finished(stages: &Stages<'_>, deaths: Vec<String>) -> Result<StageStatus, RunError> {
    let path = stages.layout.status(stages.stage);
    let mut status: StageStatus = read_json(&path)?;
    if !deaths.is_empty() {
        status.deaths = deaths;
        write_json(&path, &status)?;
    }
    // Their answers are in the chunks now.
    let _ = std::fs::remove_dir_all(stages.layout.alone(stages.stage));
    Ok(status)
}

fn give_up(
    stages: &Stages<'_>,
    reason: String,
    deaths: Vec<String>,
) -> Result<StageStatus, RunError> {
    let status = StageStatus {
        deaths,
        ..StageStatus::without(StageState::Failed, reason)
    };
    write_json(&stages.layout.status(stages.stage), &status)?;
    Ok(status)
}
