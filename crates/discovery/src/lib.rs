//! Sources of sightings of peers
