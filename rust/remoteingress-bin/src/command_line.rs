//! The commands of a machine without Node: `hub`, `edge`, `secret`, `token`, `doctor`, `ctl`.

use crate::ctl::CtlArgs;
use crate::doctor::{self, Patient, ReadFile};
use crate::edge::Edge;
use crate::engine::Engine;
use crate::engine::admin::{Answered, Unanswered};
use crate::engine::kept_edges::KeptEdges;
use crate::hub::control::HubControl;
use crate::hub::enrolment::{self, HubPlace};
use crate::hub::{self, Hub};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::error::{ContextKind, ErrorKind};
use clap::{Args, Parser, Subcommand};
use remoteingress_config::error::{CodedError, ErrorCode};
use remoteingress_config::{EdgeConfig, HubConfig, parse_edge, parse_hub};
use remoteingress_observe::events::Events;
use remoteingress_os::signals::Signals;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Environment variable that holds an edge's token if no file is named.
const TOKEN_VARIABLE: &str = "REMOTEINGRESS_TOKEN";
/// The longest token, in characters (threats 1.1).
const MAX_TOKEN: usize = 2_048;
/// The largest configuration file, in bytes.
const MAX_FILE: u64 = 64 * 1_024 * 1_024;
/// Said of a file with a fault at SIGHUP.
const RELOAD_FAILED: &str = "failed to reload the configuration; the old one stays";
/// Fields by which an edge knows its hub.
const OF_EDGE: [&str; 5] = ["token", "hubHost", "listenTunnel", "edgeId", "secret"];
/// A longer word among the arguments isn't shown, in bytes: an admin token has 16 at least.
const LONGEST_WORD: usize = 15;
/// The exit code for arguments that make no sense.
const BAD_USAGE: u8 = 2;

#[derive(Parser)]
#[command(
    name = "remoteingress-bin",
    version,
    about = "Ingress tunnel: a public edge and a private hub",
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    /// Be driven over stdin and stdout (docs/ipc.md)
    #[arg(long)]
    pub(crate) management: bool,
    #[command(subcommand)]
    pub(crate) command: Option<Commands>,
}

#[derive(Subcommand)]
pub(crate) enum Commands {
    /// Run a hub beside the targets
    Hub {
        /// The object given to hub.start, with "edges"
        #[arg(long)]
        config: PathBuf,
    },
    /// Run a public edge; its token comes from --token-file or REMOTEINGRESS_TOKEN, never from an argument
    Edge(EdgeArgs),
    /// Ask or change a hub or edge that runs, at its admin server (docs/admin.md)
    Ctl(CtlArgs),
    /// Print a new secret
    Secret,
    /// Print the connection token of an edge in the hub's configuration
    Token {
        /// The hub's configuration file
        #[arg(long)]
        config: PathBuf,
        /// The edge's id
        #[arg(long)]
        edge: String,
        /// Name or IP address by which edges reach the hub; an edge that the hub dials needs none
        #[arg(long)]
        hub_host: Option<String>,
        /// Port by which edges reach the hub, if not its tunnelPort
        #[arg(long, value_name = "1-65535", value_parser = clap::value_parser!(u16).range(1..))]
        hub_port: Option<u16>,
    },
    /// Look for what would keep a hub or an edge from working; ends with 0 if nothing does, 1 with warnings, 2 with failures
    Doctor(DoctorArgs),
}

#[derive(Args)]
pub(crate) struct EdgeArgs {
    /// The object given to edge.start
    #[arg(long)]
    config: Option<PathBuf>,
    /// A file that holds the connection token; - is stdin
    #[arg(long)]
    token_file: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct DoctorArgs {
    /// The configuration file of a hub or an edge
    #[arg(long)]
    config: Option<PathBuf>,
    /// A file that holds an edge's connection token; - is stdin
    #[arg(long)]
    token_file: Option<PathBuf>,
    /// Print one JSON object for programs
    #[arg(long)]
    json: bool,
}

/// Reads the arguments, or says what is wrong with them without repeating them: one may be a secret.
#[expect(clippy::print_stderr, reason = "the logs have not begun")]
pub(crate) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Cli, u8> {
    let arguments: Vec<OsString> = arguments.collect();
    let is_ctl = arguments.get(1).is_some_and(|command| command == "ctl");
    #[expect(clippy::wildcard_enum_match_arm, reason = "clap's kinds are open")]
    Cli::try_parse_from(arguments).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            // Whoever asked may have closed the pipe.
            let _ = error.print();
            u8::try_from(error.exit_code()).unwrap_or(BAD_USAGE)
        }
        _ => {
            let (problem, of) = (
                usage_problem(&error, is_ctl),
                if is_ctl { " ctl" } else { "" },
            );
            eprintln!("bad usage: {problem}; see remoteingress-bin{of} --help");
            BAD_USAGE
        }
    })
}

/// Names arguments as we define them, and as they were given only where they can't be a secret.
fn usage_problem(error: &clap::Error, is_ctl: bool) -> String {
    let (kind, argument) = (error.kind(), error.get(ContextKind::InvalidArg));
    match (kind, argument) {
        (ErrorKind::UnknownArgument, given) => {
            let given = given.map(ToString::to_string).unwrap_or_default();
            let may_be_secret =
                !given.starts_with('-') || ["--token", "--secret"].contains(&given.as_str());
            if may_be_secret {
                let other = if is_ctl {
                    "or --config".to_owned()
                } else {
                    format!("or {TOKEN_VARIABLE}")
                };
                format!("{kind}; a token or secret is never an argument: use --token-file {other}")
            } else if is_harmless(&given) {
                format!("{kind}: {given}")
            } else {
                kind.to_string()
            }
        }
        (ErrorKind::InvalidSubcommand, _) => {
            let given = error.get(ContextKind::InvalidSubcommand);
            match given.map(ToString::to_string) {
                Some(given) if is_harmless(&given) => format!("{kind}: {given}"),
                _ => kind.to_string(),
            }
        }
        (_, Some(ours)) => format!("{kind}: {ours}"),
        (_, None) => kind.to_string(),
    }
}

/// A short word of small letters is a typing error, and no secret.
fn is_harmless(given: &str) -> bool {
    let word = given.strip_prefix("--").unwrap_or(given);
    word.len() <= LONGEST_WORD
        && word.starts_with(|letter: char| letter.is_ascii_lowercase())
        && word
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'-')
}

/// A token in the environment could be read from /proc by others of the same user: hand it to
/// ourselves on stdin, without the variable.
pub(crate) fn hide_token(cli: &Cli) -> Result<(), CodedError> {
    let takes_token = match &cli.command {
        Some(Commands::Edge(args)) => args.token_file.is_none(),
        Some(Commands::Doctor(args)) => {
            args.token_file.is_none() && !args.config.as_deref().is_some_and(is_of_hub)
        }
        _ => false,
    };
    if !takes_token {
        return Ok(());
    }
    let Some(token) = std::env::var_os(TOKEN_VARIABLE) else {
        return Ok(());
    };
    let failed = |error: std::io::Error| {
        let message = format!("failed to take {TOKEN_VARIABLE} out of the environment: {error}");
        CodedError::new(ErrorCode::Internal, message)
    };
    let text = token.into_encoded_bytes();
    if text.len() > MAX_TOKEN {
        let message =
            format!("the token in {TOKEN_VARIABLE} is longer than {MAX_TOKEN} characters");
        return Err(CodedError::new(ErrorCode::InvalidToken, message));
    }
    let (reader, mut writer) = std::io::pipe().map_err(failed)?;
    // Far less than a pipe holds.
    writer.write_all(&text).map_err(failed)?;
    drop(writer);
    let error = Command::new("/proc/self/exe")
        .args(std::env::args_os().skip(1))
        .args(["--token-file", "-"])
        .env_remove(TOKEN_VARIABLE)
        .stdin(reader)
        .exec();
    Err(failed(error))
}

/// Runs a command to its end, and gives its exit code.
pub(crate) async fn run(command: Commands) -> Result<u8, CodedError> {
    match command {
        Commands::Doctor(args) => return run_doctor(&args).await,
        Commands::Hub { config } => run_hub(&config).await,
        Commands::Edge(args) => run_edge(&args).await,
        // It has another end, see `main`.
        Commands::Ctl(_) => Ok(()),
        Commands::Secret => print(&URL_SAFE_NO_PAD.encode(remoteingress_os::random::bytes::<32>())),
        Commands::Token {
            config,
            edge,
            hub_host,
            hub_port,
        } => {
            let (config, _) = start_of_hub(&config)?;
            let allowed = config
                .edges
                .iter()
                .find(|allowed| allowed.id.as_str() == edge)
                .ok_or_else(|| {
                    let message = format!("there is no edge {edge:?} in the configuration's edges, and REST has added none of this id");
                    CodedError::new(ErrorCode::UnknownEdge, message)
                })?;
            let port = match (hub_port, config.tunnel_port) {
                (Some(port), _) => port,
                (None, port) if hub_host.is_none() => port,
                (None, 0) => {
                    let problem = "is needed where the hub's tunnelPort is 0";
                    return Err(CodedError::invalid_config("--hub-port", problem));
                }
                (None, port) => port,
            };
            let (_, pin) = hub::certificate::identity(&config)?;
            let hub = HubPlace {
                address: hub_host.as_deref().map(|host| (host, port)),
                field: "--hub-host",
                listens: config.listens,
            };
            print(&enrolment::token(allowed, pin, hub)?)
        }
    }?;
    Ok(0)
}

async fn run_doctor(args: &DoctorArgs) -> Result<u8, CodedError> {
    let report = doctor::examine(patient(args)?).await;
    let shown = json!(report);
    print(&if args.json {
        shown.to_string()
    } else {
        doctor::table(&shown)
    })?;
    Ok(report.exit_code())
}

/// The configuration and its files. A token, or one of the fields that say which hub an edge has, make it an edge's.
fn patient(args: &DoctorArgs) -> Result<Patient, CodedError> {
    let DoctorArgs {
        config: path,
        token_file,
        ..
    } = args;
    if path.is_none() && token_file.is_none() {
        let problem = format!("or --token-file is missing, or a token in {TOKEN_VARIABLE}");
        return Err(CodedError::invalid_config("--config", problem));
    }
    let is_edge = token_file.is_some() || path.as_deref().is_some_and(is_of_edge);
    let config = if is_edge {
        let args = EdgeArgs {
            config: path.clone(),
            token_file: token_file.clone(),
        };
        read_edge(&args, None).map(|config| doctor::Config::Edge(Box::new(config)))
    } else {
        let read = path
            .as_deref()
            .map_or_else(|| parse_hub(&json!({})), |path| Ok(start_of_hub(path)?.0));
        read.map(|config| doctor::Config::Hub(Box::new(config)))
    };
    let token = token_file.iter().map(|path| (path, true));
    let configuration = path.iter().map(|path| (path, holds_secret(path)));
    let files = token
        .chain(configuration)
        .filter(|(path, _)| !is_stdin(path));
    Ok(Patient {
        config,
        files: files
            .map(|(path, holds_secret)| ReadFile {
                path: path.clone(),
                holds_secret,
            })
            .collect(),
    })
}

/// The configuration says by itself that it is an edge's.
fn is_of_edge(path: &Path) -> bool {
    has_any(path, &OF_EDGE) && !has_any(path, &["edges"])
}

/// A field that only hubs have.
fn is_of_hub(path: &Path) -> bool {
    has_any(
        path,
        &["edges", "tunnelPort", "targetHost", "tls", "listen"],
    )
}

fn holds_secret(path: &Path) -> bool {
    const SECRETS: [&str; 6] = [
        "/token",
        "/secret",
        "/edges/0",
        "/tls/keyPem",
        "/hubProxy",
        "/admin/token",
    ];
    let has_any = |value: Value| SECRETS.iter().any(|field| value.pointer(field).is_some());
    !is_stdin(path) && read_json(path).is_ok_and(has_any)
}

fn has_any(path: &Path, fields: &[&str]) -> bool {
    !is_stdin(path)
        && read_json(path).is_ok_and(|value| fields.iter().any(|field| value.get(field).is_some()))
}

fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

async fn run_hub(path: &Path) -> Result<(), CodedError> {
    let signals = listen()?;
    let events = Events::logged();
    let (config, edges) = start_of_hub(path)?;
    let admin = Unanswered::start(config.admin.as_ref(), &events)?;
    let hub = Hub::start(config, events)?;
    let control = hub.control().clone();
    let engine = Engine::Hub(Box::new(hub));
    let admin = admin.map(|admin| admin.answer(engine.control(), edges.clone()));
    loop {
        tokio::select! {
            () = signals.terminated() => break,
            () = Answered::drain(admin.as_ref()) => break,
            () = signals.reload() => {
                Answered::reload(admin.as_ref());
                control.reopen_log();
                reload_hub(&control, &edges, path).await;
            }
        }
    }
    engine.stop(signals.cut(), std::future::pending()).await;
    Ok(())
}

async fn reload_hub(hub: &HubControl, edges: &KeptEdges, path: &Path) {
    match read_hub(path) {
        Ok((config, file)) => {
            let edges = edges.reload(hub, config, &file).await;
            tracing::info!(
                edges_added = edges.added.len(),
                edges_removed = edges.removed.len(),
                edges_changed = edges.changed.len(),
                edges_unchanged = edges.unchanged.len(),
                "configuration reloaded"
            );
        }
        Err(error) => tracing::error!(%error, "{RELOAD_FAILED}"),
    }
}

async fn run_edge(args: &EdgeArgs) -> Result<(), CodedError> {
    let signals = listen()?;
    let mut token = None;
    // What comes on stdin comes once.
    if let Some(path) = args.token_file.as_ref().filter(|path| is_stdin(path)) {
        token = Some(read(path)?);
    }
    let events = Events::logged();
    let config = read_edge(args, token.as_deref())?;
    let admin = Unanswered::start(config.admin.as_ref(), &events)?;
    let edge = Edge::start(config, events)?;
    let control = edge.control().clone();
    let engine = Engine::Edge(Box::new(edge));
    let edges = KeptEdges::under_program();
    let admin = admin.map(|admin| admin.answer(engine.control(), edges));
    loop {
        tokio::select! {
            () = signals.terminated() => break,
            () = Answered::drain(admin.as_ref()) => break,
            () = signals.reload() => {
                Answered::reload(admin.as_ref());
                control.reopen_log();
                match read_edge(args, token.as_deref()) {
                    Ok(config) => {
                        control.reload(config);
                        tracing::info!("configuration reloaded");
                    }
                    Err(error) => tracing::error!(%error, "{RELOAD_FAILED}"),
                }
            }
        }
    }
    engine.stop(signals.cut(), std::future::pending()).await;
    Ok(())
}

/// The edge's configuration from its files; `token` is that of a file that can't be read again.
fn read_edge(args: &EdgeArgs, token: Option<&str>) -> Result<EdgeConfig, CodedError> {
    let mut config = match &args.config {
        Some(path) => read_json(path)?,
        None => json!({}),
    };
    let read_now = match (token, &args.token_file) {
        (None, Some(path)) => Some(read(path)?),
        _ => None,
    };
    if let Some(token) = token.or(read_now.as_deref()) {
        config["token"] = Value::String(token.trim().to_owned());
    }
    if OF_EDGE.iter().all(|field| config.get(field).is_none()) {
        let problem = format!(
            "is missing; name a file with --token-file, set {TOKEN_VARIABLE}, or write \"token\" into the --config file"
        );
        return Err(CodedError::invalid_config("token", problem));
    }
    parse_edge(&config)
}

fn listen() -> Result<Signals, CodedError> {
    Signals::listen().map_err(|error| {
        CodedError::new(
            ErrorCode::Internal,
            format!("failed to listen to signals: {error}"),
        )
    })
}

/// The configuration of a hub, and the file's JSON.
fn read_hub(path: &Path) -> Result<(HubConfig, Value), CodedError> {
    let file = read_json(path)?;
    Ok((parse_hub(&file)?, file))
}

/// The configuration with which a hub starts, after the changes over REST of earlier runs.
fn start_of_hub(path: &Path) -> Result<(HubConfig, KeptEdges), CodedError> {
    let (mut config, file) = read_hub(path)?;
    let edges = KeptEdges::beside(&mut config, &file)?;
    Ok((config, edges))
}

/// The object that a configuration file holds.
fn read_json(path: &Path) -> Result<Value, CodedError> {
    let value: Value = serde_json::from_str(&read(path)?).map_err(|error| {
        let place = format!(
            "{}: line {}, column {}",
            path.display(),
            error.line(),
            error.column()
        );
        CodedError::invalid_config(place, "is not JSON")
    })?;
    if !value.is_object() {
        return Err(CodedError::invalid_config(
            path.display(),
            "must hold a JSON object at its top level",
        ));
    }
    Ok(value)
}

fn read(path: &Path) -> Result<String, CodedError> {
    let mut text = String::new();
    let most = MAX_FILE + 1;
    let read = if is_stdin(path) {
        std::io::stdin().take(most).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(most).read_to_string(&mut text))
    };
    match read {
        Ok(_) if text.len() as u64 > MAX_FILE => Err(CodedError::invalid_config(
            path.display(),
            format!("has more than {MAX_FILE} bytes"),
        )),
        Ok(_) => Ok(text),
        Err(error) => Err(CodedError::invalid_config(
            path.display(),
            format!("failed to read it: {error}"),
        )),
    }
}

fn print(text: &str) -> Result<(), CodedError> {
    writeln!(std::io::stdout(), "{text}").map_err(|error| {
        CodedError::new(
            ErrorCode::Internal,
            format!("failed to write to stdout: {error}"),
        )
    })
}
