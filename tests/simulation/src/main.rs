//! `sbot-simulation`: runs a world with one policy or both, prints the table, and draws the plots.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use sbot_simulation::{DAY, Kind, Settings, World, costs, plots, run, table};

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Policy {
    Ours,
    SsbConn,
    Both,
}

/// Whole networks of peers in virtual time.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Living peers.
    #[arg(long, default_value_t = Settings::default().peers as u32, value_parser = clap::value_parser!(u32).range(2..=100_000))]
    peers: u32,
    /// Days of virtual time.
    #[arg(long, default_value_t = Settings::default().duration / DAY, value_parser = clap::value_parser!(u64).range(1..=365))]
    days: u64,
    /// Where all chance comes from.
    #[arg(long, default_value_t = Settings::default().seed)]
    seed: u64,
    /// Which policy the peers follow.
    #[arg(long, value_enum, default_value = "both")]
    policy: Policy,
    /// Feeds up to this distance are replicated.
    #[arg(long, default_value_t = Settings::default().hops, value_parser = clap::value_parser!(u8).range(1..=3))]
    hops: u8,
    /// Messages published a day, by all together.
    #[arg(long, default_value_t = Settings::default().messages_a_day)]
    messages: usize,
    /// How many of the pubs know an address of every peer.
    #[arg(long, default_value_t = 0)]
    know_all: usize,
    /// Pubs with ssb-conn's policy hang up on their oldest callers when there are more than eight, as its source has it.
    #[arg(long)]
    pubs_prune: bool,
    /// Draw the plots into this directory.
    #[arg(long, value_name = "DIR")]
    svg: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let world = World::new(Settings {
        peers: args.peers as usize,
        duration: args.days * DAY,
        seed: args.seed,
        hops: args.hops,
        messages_a_day: args.messages,
        know_all: args.know_all,
        pubs_prune: args.pubs_prune,
        ..Settings::default()
    });
    let kinds: &[Kind] = match args.policy {
        Policy::Ours => &[Kind::Ours],
        Policy::SsbConn => &[Kind::SsbConn],
        Policy::Both => &[Kind::Ours, Kind::SsbConn],
    };
    let outcomes: Vec<_> = kinds.iter().map(|kind| run(&world, *kind)).collect();
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", table(&world, &outcomes))?;
    for outcome in &outcomes {
        writeln!(out, "{}", costs(outcome))?;
    }
    if let Some(directory) = &args.svg {
        std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        for (name, text) in plots(&world, &outcomes) {
            let path = directory.join(name);
            std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    Ok(())
}
