//! Who may, by one rule.

use std::fmt;

use crate::{Asker, Role};

/// Who may, by one rule: everyone from one role upwards, and perhaps guests and rooms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Access {
    least: Role,
    guests: bool,
    rooms: bool,
}

/// Why names don't say who may.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// No role has this name.
    #[error("there is no role {0:?}: known are {known}", known = Access::known())]
    Unknown(String),
    /// Two roles of the ladder.
    #[error("{0} and {1}: name one, whoever is nearer is meant too; only guest and room stand beside it")]
    Two(&'static str, &'static str),
    /// Blocked ones never may.
    #[error("who is blocked may do nothing, whatever the config says")]
    Blocked,
    /// Nobody is named.
    #[error("no role is named: name at least owner, who always may")]
    Nobody,
}

impl Access {
    /// Everyone from `least` upwards.
    pub(crate) const fn from(least: Role) -> Access {
        Access { least, guests: false, rooms: false }
    }

    pub(crate) const fn and_guests(self) -> Access {
        Access { guests: true, ..self }
    }

    pub(crate) const fn and_rooms(self) -> Access {
        Access { rooms: true, ..self }
    }

    /// Who these names mean: one role of the ladder at most, `guest` and `room` beside it. Without one of the ladder, the
    /// owner alone stands on it.
    ///
    /// # Errors
    /// [`AccessError`].
    pub fn from_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Access, AccessError> {
        let (mut least, mut access, mut any) = (None, Access::from(Role::Owner), false);
        for name in names {
            any = true;
            match Role::from_name(name).ok_or_else(|| AccessError::Unknown(name.chars().take(60).collect()))? {
                Role::Blocked => return Err(AccessError::Blocked),
                Role::Guest => access.guests = true,
                Role::Room => access.rooms = true,
                role => match least.replace(role) {
                    Some(other) if other != role => return Err(AccessError::Two(other.name(), role.name())),
                    _ => {}
                },
            }
        }
        if !any {
            return Err(AccessError::Nobody);
        }
        Ok(Access { least: least.unwrap_or(Role::Owner), ..access })
    }

    fn known() -> String {
        let names = Role::ALL.into_iter().filter(|role| *role != Role::Blocked).map(Role::name);
        names.collect::<Vec<_>>().join(", ")
    }

    /// Whether this is the first rung of the ladder that it lets in.
    pub(crate) fn begins_at(self, role: Role) -> bool {
        self.least == role
    }

    /// Whether it lets nobody in whom `other` keeps out.
    pub(crate) fn is_within(self, other: Access) -> bool {
        self.least.rung() >= other.least.rung()
            && (!self.guests || other.guests)
            && (!self.rooms || other.rooms || other.least == Role::Stranger)
    }

    /// Whether an asker with this role is let in. Being a room never takes anything away: it counts for any role.
    pub(crate) fn admits(self, role: Role, asker: &Asker) -> bool {
        match role {
            Role::Blocked => false,
            Role::Guest => self.guests,
            _ => role.rung() >= self.least.rung() || (self.rooms && asker.room),
        }
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.least.name())?;
        if self.guests {
            f.write_str(" and guest")?;
        }
        if self.rooms {
            f.write_str(" and room")?;
        }
        Ok(())
    }
}
