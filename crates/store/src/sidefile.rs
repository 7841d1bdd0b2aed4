//! Files of derived data: a version, numbers, a checksum over all; written anew beside the old one, which they replace.
//!
//! A file that is missing, torn, damaged or of another version is simply not there: what it holds is made again from the
//! log.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;

use crate::error::StoreError;

/// Buffered while reading and writing, in bytes.
const BUFFER: usize = 64 << 10;

pub(crate) struct Writer {
    out: BufWriter<File>,
    sum: u32,
}

impl Writer {
    pub(crate) fn put(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.sum = crc32c::crc32c_append(self.sum, bytes);
        self.out.write_all(bytes)
    }

    pub(crate) fn u32(&mut self, number: u32) -> std::io::Result<()> {
        self.put(&number.to_le_bytes())
    }

    pub(crate) fn u64(&mut self, number: u64) -> std::io::Result<()> {
        self.put(&number.to_le_bytes())
    }

    pub(crate) fn f64(&mut self, number: f64) -> std::io::Result<()> {
        self.put(&number.to_le_bytes())
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.u32(bytes.len() as u32)?;
        self.put(bytes)
    }

    pub(crate) fn u32s(&mut self, numbers: &[u32]) -> std::io::Result<()> {
        self.u32(numbers.len() as u32)?;
        let mut buffer = [0; 4096];
        for part in numbers.chunks(buffer.len() / 4) {
            for (bytes, number) in buffer.chunks_exact_mut(4).zip(part) {
                bytes.copy_from_slice(&number.to_le_bytes());
            }
            self.put(&buffer[..part.len() * 4])?;
        }
        Ok(())
    }
}

/// Writes a file that replaces the one at `path` once it is whole and on disk. `write` may hold a lock: the wait for the
/// disk comes after it.
pub(crate) fn save(
    path: &Path,
    magic: &[u8; 8],
    write: impl FnOnce(&mut Writer) -> std::io::Result<()>,
) -> Result<(), StoreError> {
    let new = path.with_extension("new");
    let written = File::create(&new).and_then(|file| {
        let mut writer = Writer { out: BufWriter::with_capacity(BUFFER, file), sum: 0 };
        writer.put(magic)?;
        write(&mut writer)?;
        let sum = writer.sum;
        writer.out.write_all(&sum.to_le_bytes())?;
        writer.out.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_data()
    });
    written.and_then(|()| fs::rename(&new, path)).map_err(|error| {
        // A half-written file would only take room.
        let _ = fs::remove_file(&new);
        StoreError::io("can't write", path, error)
    })
}

pub(crate) struct Reader {
    input: BufReader<File>,
    /// Bytes before the checksum that have not been read.
    left: u64,
    sum: u32,
}

impl Reader {
    fn fill(&mut self, bytes: &mut [u8]) -> Option<()> {
        self.left = self.left.checked_sub(bytes.len() as u64)?;
        self.input.read_exact(bytes).ok()?;
        self.sum = crc32c::crc32c_append(self.sum, bytes);
        Some(())
    }

    pub(crate) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Some(bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    pub(crate) fn f64(&mut self) -> Option<f64> {
        self.take().map(f64::from_le_bytes)
    }

    /// A list's length, which can't be more than the bytes that are left.
    pub(crate) fn count(&mut self, item: u64) -> Option<usize> {
        let count = self.u32()?;
        (u64::from(count) * item <= self.left).then_some(count as usize)
    }

    pub(crate) fn bytes(&mut self) -> Option<Vec<u8>> {
        let mut bytes = vec![0; self.count(1)?];
        self.fill(&mut bytes)?;
        Some(bytes)
    }

    pub(crate) fn u32s(&mut self) -> Option<Vec<u32>> {
        let count = self.count(4)?;
        let mut numbers = Vec::with_capacity(count);
        let mut buffer = [0; 4096];
        while numbers.len() < count {
            let bytes = &mut buffer[..(count - numbers.len()).min(1024) * 4];
            self.left = self.left.checked_sub(bytes.len() as u64)?;
            self.input.read_exact(bytes).ok()?;
            self.sum = crc32c::crc32c_append(self.sum, bytes);
            numbers.extend(bytes.as_chunks().0.iter().map(|four| u32::from_le_bytes(*four)));
        }
        Some(numbers)
    }
}

/// What `read` makes of the file, if the file is whole.
pub(crate) fn load<T>(path: &Path, magic: &[u8; 8], read: impl FnOnce(&mut Reader) -> Option<T>) -> Option<T> {
    let file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    let mut reader = Reader { input: BufReader::with_capacity(BUFFER, file), left: length.checked_sub(4)?, sum: 0 };
    if reader.take::<8>()? != *magic {
        return None;
    }
    let found = read(&mut reader)?;
    let mut sum = [0; 4];
    reader.input.read_exact(&mut sum).ok()?;
    (reader.left == 0 && reader.sum == u32::from_le_bytes(sum)).then_some(found)
}
