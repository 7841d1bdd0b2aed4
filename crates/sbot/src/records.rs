//! Records by their numbers.

use sbot_store::{Record, Store, StoreError};

/// The records with these numbers, in this order; damaged ones are left out. Blocks.
///
/// # Errors
/// What reading the log meets.
pub(crate) fn read_records(store: &Store, numbers: &[u32]) -> Result<Vec<Record>, StoreError> {
    let mut records = Vec::with_capacity(numbers.len());
    for number in numbers {
        records.extend(store.record(u64::from(*number))?);
    }
    Ok(records)
}
