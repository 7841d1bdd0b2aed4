//! Writes down what happens to peers, so that it can be played again (`--record-actions`, `sbot peers replay`).

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use sbot_peer_manager::{Action, Effect, Line, Millis, RECORDING_VERSION, State};

/// Lines that wait for the disk. When there are more, the recording ends: one with gaps can't be played.
const WAITING: usize = 16_384;

/// Lines reach the disk at least this often.
const FLUSH: Duration = Duration::from_secs(1);

/// A recording under way. It ends with its first failure, which is told in the log; the node goes on.
pub(super) struct Recorder {
    lines: SyncSender<Line>,
    ended: AtomicBool,
}

impl Recorder {
    /// Begins a recording in a new file, or in place of what was in it.
    pub(super) fn create(path: PathBuf, state: &State) -> std::io::Result<Recorder> {
        let mut file = BufWriter::new(File::create(&path)?);
        write_line(&mut file, &Line::Start { recording: RECORDING_VERSION, state: Box::new(state.clone()) })?;
        file.flush()?;
        let (lines, waiting) = sync_channel(WAITING);
        std::thread::Builder::new().name("recording".into()).spawn(move || {
            if let Err(error) = write(&mut file, &waiting) {
                tracing::error!(path = %path.display(), %error, "the recording of actions ends here");
            }
        })?;
        Ok(Recorder { lines, ended: AtomicBool::new(false) })
    }

    /// Takes down an action, in the order of the calls.
    pub(super) fn record(&self, now: Millis, action: Action, effects: &[Effect]) {
        if self.ended.load(Ordering::Relaxed) {
            return;
        }
        if self.lines.try_send(Line::Step { now, action, effects: effects.to_vec() }).is_err() {
            self.ended.store(true, Ordering::Relaxed);
            tracing::error!("the disk can't keep up with the recording of actions: it ends here");
        }
    }
}

/// Writes until the recorder is dropped.
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
