//! The command line: `sbot server` runs a node, every other command talks to a running one.
//!
//! A command connects to the unix socket in the data directory, or over tcp with our own key if there is no socket.
//! Output for people is tables and short lines; with `--json` it is one JSON value a line. Nothing that a stranger wrote
//! reaches a terminal unescaped. Exit codes: 0 done, 1 the server or the method failed, 2 wrong usage or settings, 3 no
//! server is running, 4 refused.

mod arguments;
mod call;
mod client;
mod failure;
mod hub;
mod hubs;
mod invite;
mod keygen;
mod messages;
mod output;
mod peers_table;
mod publish;
mod replay;
mod server;
mod tables;
mod text;
mod transfer;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::config::{Config, Loaded, Place, Sources};
use failure::Failure;
use output::Output;

const EXIT_CODES: &str = "\
Any other command is taken for a method of the server: sbot createLogStream --limit 5

Exit codes:
  0  done
  1  the server or the method failed, or a file could not be read or written
  2  wrong usage or settings
  3  no server is running
  4  refused: by the server's policy, or because a file may not be used

Settings are read from DIR/config (JSON with comments), then from --config, then from the
environment (ssb_friends__hops=2), then from options; later ones win.";

/// A Secure Scuttlebutt peer.
#[derive(Debug, Parser)]
#[command(name = "sbot", version, about, after_help = EXIT_CODES, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
struct Global {
    /// Print one JSON value a line, for scripts
    #[arg(long, global = true)]
    json: bool,
    /// Data directory [default: ~/.ssb; ssb_path and ssb_appname change it]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Settings")]
    path: Option<PathBuf>,
    /// Config file, read after DIR/config
    #[arg(long, global = true, value_name = "FILE", help_heading = "Settings")]
    config: Option<PathBuf>,
    /// Host to listen on, or where the server is
    #[arg(long, global = true, value_name = "HOST", help_heading = "Settings")]
    host: Option<String>,
    /// TCP port [default: 8008]
    #[arg(long, global = true, value_name = "PORT", help_heading = "Settings")]
    port: Option<String>,
    /// Websocket port
    #[arg(long = "ws.port", global = true, value_name = "PORT", help_heading = "Settings")]
    ws_port: Option<String>,
    /// Network key [default: the main network's]
    #[arg(long = "caps.shs", global = true, value_name = "BASE64", help_heading = "Settings")]
    caps_shs: Option<String>,
    /// Key under which the network's messages are signed too
    #[arg(long = "caps.sign", global = true, value_name = "BASE64", help_heading = "Settings")]
    caps_sign: Option<String>,
    /// How far from us feeds are replicated [default: 3]
    #[arg(long = "friends.hops", global = true, value_name = "HOPS", help_heading = "Settings")]
    friends_hops: Option<String>,
    /// A connection idle for this long is closed
    #[arg(long, global = true, value_name = "MS", help_heading = "Settings")]
    timeout: Option<String>,
    /// error, warning, notice, info or trace
    #[arg(long = "logging.level", global = true, value_name = "LEVEL", help_heading = "Settings")]
    logging_level: Option<String>,
    /// Multiserver address of the server to talk to, in place of our own
    #[arg(long, global = true, value_name = "ADDRESS", help_heading = "Settings")]
    remote: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node until it is told to stop
    #[command(alias = "start")]
    Server {
        /// Record everything that happens to peers in FILE, which grows, for `sbot peers replay`
        #[arg(long, value_name = "FILE")]
        record_actions: Option<PathBuf>,
        /// Any setting: -- --gossip.connections 5 --local false
        #[arg(last = true, value_name = "SETTINGS")]
        settings: Vec<String>,
    },
    /// Print the server's feed id
    Whoami,
    /// Publish a message: --type post --text hi, or JSON, or - to read JSON
    Publish {
        /// --NAME VALUE for each field (dots nest), one JSON object, or -. --recps ID, once or more, makes it private
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "CONTENT")]
        words: Vec<String>,
    },
    /// Print one message
    Get {
        /// Message id, %….sha256
        id: String,
        /// Open it if it is private and for us
        #[arg(long)]
        private: bool,
    },
    /// Print messages in the order in which they came in
    Log(messages::LogOptions),
    /// Print the messages of one feed
    #[command(alias = "hist")]
    History(messages::HistoryOptions),
    /// Call any method of the server
    ///
    /// Arguments are texts, numbers or JSON; --NAME VALUE are collected in one object at the end (dots nest). A single
    /// dot reads the argument from standard input, as JSON. What streams out is printed one JSON value a line, or as it
    /// is if it is binary. What a method takes as a stream is read from standard input, one JSON value a line; blobs.add
    /// takes a file's name, or the bytes.
    Call {
        /// Method and its arguments. Settings go before the method, or after a last --
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "METHOD")]
        words: Vec<String>,
    },
    /// Take in messages from a file of one JSON message a line
    Import {
        /// The file, or - for standard input
        file: PathBuf,
    },
    /// Write out all messages, one {key, value, timestamp} a line
    Export {
        /// A new file, or - for standard output
        #[arg(default_value = "-")]
        file: PathBuf,
    },
    /// Print what the server is and does
    Status,
    /// Print the peers that the server knows: where they are, their state, the next try, and why
    #[command(args_conflicts_with_subcommands = true)]
    Peers {
        #[command(subcommand)]
        what: Option<PeersCommand>,
    },
    /// Connect the server to a peer
    Connect {
        /// Multiserver address, net:HOST:PORT~shs:KEY
        address: String,
    },
    /// Print the signalling hubs that the server uses, where peers are met that can't be dialed
    #[command(args_conflicts_with_subcommands = true)]
    Hubs {
        #[command(subcommand)]
        what: Option<hubs::HubsCommand>,
    },
    /// Invite others to this server, or accept a pub's invite
    #[command(subcommand)]
    Invite(invite::InviteCommand),
    /// Run a signalling hub, at which peers meet that can't be dialed, until it is told to stop
    ///
    /// It needs no data directory and no key. --host and --port say where it listens: every interface and port 8080 if
    /// nothing is said. For https put a proxy before it that speaks TLS, and name it with --behind-proxy.
    Hub(hub::HubOptions),
    /// Make a new key
    Keygen {
        /// A new file for it; without one it is printed
        file: Option<PathBuf>,
    },
    /// Print this program's version, and the server's if one is running
    Version,
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    #[command(external_subcommand)]
    Method(Vec<String>),
}

#[derive(Debug, Subcommand)]
enum PeersCommand {
    /// Play a recording of `sbot server --record-actions`, and print what was known of each peer in the end
    Replay {
        /// The recording
        file: PathBuf,
    },
}

/// What a command has to work with.
struct Context {
    loaded: Loaded,
    output: Output,
    json: bool,
}

/// Runs the command that this process' arguments name, and says how it ended.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Also --help and --version; nobody listening is no failure.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.report();
            ExitCode::from(failure.code())
        }
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    let Cli { global, command } = cli;
    let output = Output::stdout();
    match command {
        Command::Keygen { file } => return keygen::run(file.as_deref(), global.json, output),
        Command::Completions { shell } => return completions(shell, output),
        Command::Hub(options) => {
            let Global { host, port, logging_level, json, .. } = global;
            return hub::run(options, hub::Place { host, port, logging_level, json }, output);
        }
        _ => {}
    }
    let (command, settings) = split_settings(command);
    let json = global.json;
    let loaded = load(global, &settings)?;
    let mut context = Context { loaded, output, json };
    if let Command::Server { record_actions, .. } = command {
        context.loaded.config.peers.record = record_actions;
        return server::run(context.loaded);
    }
    // A running server has warned of its settings already; a command says only what spoils the command itself.
    let runtime = client::runtime()?;
    let ended = runtime.block_on(async {
        let done = dispatch(command, &mut context).await;
        let flushed = context.output.flush();
        done?;
        Ok(flushed?)
    });
    // Not waiting for a read of standard input that nobody needs any more.
    runtime.shutdown_background();
    ended
}

async fn dispatch(command: Command, context: &mut Context) -> Result<(), Failure> {
    match command {
        Command::Whoami => messages::whoami(context).await,
        Command::Publish { words } => publish::run(context, words).await,
        Command::Get { id, private } => messages::get(context, &id, private).await,
        Command::Log(options) => messages::log(context, options).await,
        Command::History(options) => messages::history(context, options).await,
        Command::Call { words } => call::run(context, words, false).await,
        Command::Method(words) => call::run(context, words, true).await,
        Command::Import { file } => transfer::import(context, &file).await,
        Command::Export { file } => transfer::export(context, &file).await,
        Command::Status => tables::status(context).await,
        Command::Peers { what: None } => tables::peers(context).await,
        Command::Peers { what: Some(PeersCommand::Replay { file }) } => replay::run(context, &file),
        Command::Connect { address } => tables::connect(context, &address).await,
        Command::Hubs { what } => hubs::run(context, what).await,
        Command::Invite(command) => invite::run(context, command).await,
        Command::Version => tables::version(context).await,
        Command::Server { .. } | Command::Hub(_) | Command::Keygen { .. } | Command::Completions { .. } => Ok(()),
    }
}

/// Settings behind a last `--`, as ssb-server's command takes them (`bin.js`).
fn split_settings(mut command: Command) -> (Command, Vec<String>) {
    let settings = match &mut command {
        Command::Server { settings, .. } => std::mem::take(settings),
        Command::Call { words } | Command::Method(words) | Command::Publish { words } => {
            match words.iter().position(|word| word == "--") {
                Some(at) => words.split_off(at).split_off(1),
                None => Vec::new(),
            }
        }
        _ => Vec::new(),
    };
    (command, settings)
}

fn load(global: Global, settings: &[String]) -> Result<Loaded, Failure> {
    let mut sources = Sources::from_process();
    let extra =
        arguments::parse(settings, &["path", "config", "caps.shs", "caps.sign", "host"]).map_err(Failure::usage)?;
    if let Some(word) = extra.positional.first() {
        let word = serde_json::to_string(word).unwrap_or_default();
        return Err(Failure::usage(format!("{word} after -- is no setting: expected --NAME VALUE")));
    }
    let mut options = arguments::flattened(&extra.options).map_err(Failure::usage)?;
    for (key, value) in [
        ("host", global.host),
        ("port", global.port),
        ("ws.port", global.ws_port),
        ("caps.shs", global.caps_shs),
        ("caps.sign", global.caps_sign),
        ("friends.hops", global.friends_hops),
        ("timeout", global.timeout),
        ("logging.level", global.logging_level),
        ("remote", global.remote),
    ] {
        options.extend(value.map(|value| (key.to_owned(), value)));
    }
    let mut take = |key: &str| {
        let at = options.iter().position(|(known, _)| known == key)?;
        Some(PathBuf::from(options.swap_remove(at).1))
    };
    sources.path = global.path.or_else(|| take("path"));
    sources.config_file = global.config.or_else(|| take("config"));
    sources.options = options;
    let loaded = Config::load(&sources)?;
    // Whoever types a setting that doesn't exist is waiting for its effect.
    for warning in &loaded.warnings {
        if let crate::config::Warning::UnknownKey { place: Place::Option(_), .. } = warning {
            return Err(Failure::usage(warning.to_string().replace(", ignored", "")));
        }
    }
    Ok(loaded)
}

fn completions(shell: clap_complete::Shell, mut output: Output) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "sbot", &mut script);
    output.bytes(&script)?;
    Ok(output.flush()?)
}

/// The names of all commands, for suggestions.
fn command_names() -> Vec<String> {
    Cli::command().get_subcommands().map(|command| command.get_name().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &[&str]) -> Cli {
        Cli::try_parse_from(std::iter::once("sbot").chain(line.iter().copied())).unwrap()
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn everything_behind_a_method_belongs_to_it() {
        let cli =
            parse(&["--path", "/d", "call", "--json", "createLogStream", "--limit", "5", "--json", "--path", "x"]);
        assert!(cli.global.json);
        assert_eq!(cli.global.path, Some("/d".into()));
        let Command::Call { words } = cli.command else { panic!("call") };
        assert_eq!(words, ["createLogStream", "--limit", "5", "--json", "--path", "x"]);
    }

    #[test]
    fn an_unknown_command_is_a_method_with_its_words() {
        let Command::Method(words) = parse(&["createLogStream", "--limit", "5"]).command else { panic!("method") };
        assert_eq!(words, ["createLogStream", "--limit", "5"]);
    }

    #[test]
    fn the_fields_of_a_message_need_no_dashes_before_them() {
        let Command::Publish { words } = parse(&["publish", "--type", "post", "--text", "hi"]).command else {
            panic!("publish")
        };
        assert_eq!(words, ["--type", "post", "--text", "hi"]);
    }

    #[test]
    fn settings_may_follow_a_last_double_dash() {
        let cli = parse(&["whatever", "--limit", "5", "--", "--port", "9999"]);
        let (Command::Method(words), settings) = split_settings(cli.command) else { panic!("method") };
        assert_eq!(words, ["whatever", "--limit", "5"]);
        assert_eq!(settings, ["--port", "9999"]);
        let cli = parse(&["server", "--port", "1", "--", "--local", "false"]);
        assert_eq!(cli.global.port.as_deref(), Some("1"));
        assert_eq!(split_settings(cli.command).1, ["--local", "false"]);
    }

    #[test]
    fn invites_are_made_and_accepted_and_the_methods_names_work_too() {
        let invite = |line: &[&str]| match parse(line).command {
            Command::Invite(command) => format!("{command:?}"),
            other => panic!("{other:?}"),
        };
        assert!(invite(&["invite", "create", "--uses", "3", "--note", "hi"]).contains("uses: 3, note: Some(\"hi\")"));
        assert!(invite(&["invite", "accept", "h:1:@k~s"]).contains("h:1:@k~s"));
        assert!(matches!(parse(&["invite.create", "--uses", "3"]).command, Command::Method(_)));
        assert!(Cli::try_parse_from(["sbot", "invite", "create", "--uses", "0"]).is_err());
    }

    #[test]
    fn start_is_another_name_for_server() {
        assert!(matches!(parse(&["start"]).command, Command::Server { .. }));
    }
}
