//! Recordings: what happened, line by line, so that it can be played again to the very same states.
//!
//! Each line is a JSON object. The first one holds the state at the beginning, each further one an action, its time, and
//! the effects that followed.

use serde::{Deserialize, Serialize};

use crate::action::{Action, Effect};
use crate::state::{Millis, State};

/// The version of the format.
pub const VERSION: u32 = 1;

/// One line of a recording.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line {
    /// The first one.
    Start {
        /// [`VERSION`].
        recording: u32,
        /// The state before the first action.
        state: Box<State>,
    },
    /// Something that happened.
    Step {
        /// When.
        now: Millis,
        /// What.
        action: Action,
        /// What followed.
        effects: Vec<Effect>,
    },
}

/// Why a recording can't be played.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A line is none.
    #[error("line {line} is no line of a recording: {source}")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// It doesn't begin with a state.
    #[error("line {line} is an action, but there was no state before it")]
    NoStart {
        /// Its number, from 1.
        line: usize,
    },
    /// It has another format.
    #[error("this is a recording of version {0}; this program plays version {VERSION}")]
    Version(u32),
    /// Something else followed from an action than when it was recorded.
    #[error("line {line}: other effects followed than were recorded: {found}, expected {expected}")]
    Differs {
        /// Its number, from 1.
        line: usize,
        /// What followed now, as JSON.
        found: String,
        /// What was recorded, as JSON.
        expected: String,
    },
}

/// Plays a recording, line by line.
#[derive(Debug, Default)]
pub struct Replay {
    state: Option<State>,
    lines: usize,
    actions: usize,
}

impl Replay {
    /// Takes the next line. Empty ones are passed over.
    ///
    /// # Errors
    /// [`ReplayError`]; the state is that of before the line, or after it if its effects differ.
    pub fn line(&mut self, text: &str) -> Result<(), ReplayError> {
        self.lines += 1;
        let line = self.lines;
        if text.trim().is_empty() {
            return Ok(());
        }
        match serde_json::from_str(text).map_err(|source| ReplayError::Line { line, source })? {
            Line::Start { recording, .. } if recording != VERSION => Err(ReplayError::Version(recording)),
            Line::Start { state, .. } => {
                self.state = Some(*state);
                Ok(())
            }
            Line::Step { now, action, effects } => {
                let state = self.state.as_mut().ok_or(ReplayError::NoStart { line })?;
                self.actions += 1;
                let found = state.apply(action, now);
                if found == effects {
                    return Ok(());
                }
                let json = |effects: &[Effect]| serde_json::to_string(effects).unwrap_or_default();
                Err(ReplayError::Differs { line, found: json(&found), expected: json(&effects) })
            }
        }
    }

    /// The state after the last line; `None` if there was none.
    pub fn state(&self) -> Option<&State> {
        self.state.as_ref()
    }

    /// How many actions were played.
    pub fn actions(&self) -> usize {
        self.actions
    }
}
