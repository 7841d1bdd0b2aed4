//! Writes down what happens to peers, so that it can be played again (`--record-actions`, `sbot peers replay`).

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use sbot_peer_manager::{Action, Effect, Line, Millis, RECORDING_VERSION, State};

/// Lines that wait for the disk. When there are more, the recording ends: one with gaps can't be played.
const WAITING: usize = 16_384;

/// Lines reach the disk at least this often.
const FLUSH: Duration = Duration::from_secs(1);

/// A recording under way. It ends with its first failure, which is told in the log; the node goes on.
pub(super) struct Recorder {
    /// `None` once the recording has ended.
    lines: Mutex<Option<SyncSender<Line>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Recorder {
    /// Begins a recording in a new file, or in place of what was in it.
    pub(super) fn create(path: PathBuf, state: &State) -> std::io::Result<Recorder> {
        let mut file = BufWriter::new(File::create(&path)?);
        write_line(&mut file, &Line::Start { recording: RECORDING_VERSION, state: Box::new(state.clone()) })?;
        file.flush()?;
        let (lines, waiting) = sync_channel(WAITING);
        let writer = std::thread::Builder::new().name("recording".into()).spawn(move || {
            if let Err(error) = write(&mut file, &waiting) {
                tracing::error!(path = %path.display(), %error, "the recording of actions ends here");
            }
        })?;
        Ok(Recorder { lines: Mutex::new(Some(lines)), writer: Mutex::new(Some(writer)) })
    }

    /// Takes down an action, in the order of the calls.
    pub(super) fn record(&self, now: Millis, action: Action, effects: &[Effect]) {
        let mut lines = self.lines.lock();
        let Some(sender) = lines.as_ref() else { return };
        if sender.try_send(Line::Step { now, action, effects: effects.to_vec() }).is_err() {
            *lines = None;
            tracing::error!("the disk can't keep up with the recording of actions: it ends here");
        }
    }

    /// Ends the recording, and waits until it is written.
    pub(super) fn finish(&self) {
        *self.lines.lock() = None;
        if let Some(writer) = self.writer.lock().take() {
            // It has told what went wrong.
            let _ = writer.join();
        }
    }
}

/// Writes until the recording ends.
fn write(file: &mut BufWriter<File>, lines: &Receiver<Line>) -> std::io::Result<()> {
    loop {
        match lines.recv_timeout(FLUSH) {
            Ok(line) => write_line(file, &line)?,
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => file.flush()?,
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return file.flush(),
        }
    }
}

fn write_line(file: &mut BufWriter<File>, line: &Line) -> std::io::Result<()> {
    serde_json::to_writer(&mut *file, line)?;
    file.write_all(b"\n")
}
