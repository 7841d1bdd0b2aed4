//! The order of the feed stream: by the time that authors claim, or that of receipt if that is earlier.

use sbot_store::{Direction, Store};

use super::cursor::CHUNK;
use super::failure::Failure;
use super::options::Range;
use super::paint::resolved_time;

/// The numbers of the records within `range`, by resolved time, then author. Blocks: it reads the whole log.
pub(super) fn by_resolved_time(store: &Store, range: &Range) -> Result<Vec<u32>, Failure> {
    let (mut found, mut next) = (Vec::new(), 0);
    loop {
        let records = store.read_log(next, CHUNK, Direction::Forward)?;
        let Some(last) = records.last() else { break };
        next = last.number + 1;
        let timed = records.iter().map(|record| (resolved_time(record), record.author, record.number));
        found.extend(timed.filter(|(time, ..)| range.contains(*time)));
    }
    found.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
    // record numbers fit: the store keeps them so
    Ok(found.into_iter().filter_map(|(.., number)| u32::try_from(number).ok()).collect())
}
