//! `remoteingress-bin ctl`: asks the admin server of a hub or edge that runs, and shows the answer as tables or as JSON.
//!
//! Answers are read as JSON and not as types, so that this binary can ask a server that is older or newer than itself.

mod away;
mod change;
mod failed;
mod place;
mod pools;
mod query;
mod table;
mod views;

use crate::doctor;
use crate::terminal::plain;
use clap::{Args, Subcommand};
use failed::Failed;
use place::PlaceArgs;
use pools::PoolsCommand;
use query::{escaped, with_query};
use remoteingress_admin::client::{Client, Reply};
use serde_json::{Value, json};
use std::io::{Read, Write as _};
use std::path::PathBuf;
use std::time::SystemTime;

/// Exit codes beside that of wrong usage or no server: done; the server has refused or failed.
const DONE: u8 = 0;
const REFUSED: u8 = 1;
/// The same of `doctor`: warnings, and failures.
const WARNED: u8 = 1;
const FAILED: u8 = 2;
/// The largest file of an edge, in bytes: the server takes no larger body.
const MAX_FILE: u64 = 1_024 * 1_024;

#[derive(Args)]
pub(crate) struct CtlArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Print the server's JSON instead of tables
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: CtlCommand,
}

#[derive(Subcommand)]
enum CtlCommand {
    /// What runs and how it is
    Status,
    /// The allowed edges of a hub and their state
    Edges,
    /// One of them
    Edge { id: String },
    /// Add or replace an edge; the token is needed
    Put {
        id: String,
        /// A JSON file with the allowed edge; - is stdin. Without "secret" an edge keeps its own, and a new one gets one
        #[arg(long)]
        file: PathBuf,
    },
    /// Remove an edge; the token is needed
    Delete { id: String },
    /// Print the connection token of an edge; the admin token is needed
    Token {
        id: String,
        /// Name or IP address by which edges reach the hub; an edge that the hub dials needs none
        #[arg(long)]
        hub_host: Option<String>,
        /// Port by which edges reach the hub, if not its tunnelPort
        #[arg(long, value_name = "1-65535", value_parser = clap::value_parser!(u16).range(1..))]
        hub_port: Option<u16>,
    },
    /// The pools of a hub, their targets, and what becomes of these
    Pools {
        #[command(subcommand)]
        command: Option<PoolsCommand>,
    },
    /// Streams and flows that are open now, the oldest first
    Streams {
        /// Of this edge alone
        #[arg(long)]
        edge: Option<String>,
        /// How many at most
        #[arg(long)]
        limit: Option<u32>,
    },
    /// The latest events, the oldest first
    Events {
        /// Only those from this number on
        #[arg(long)]
        since: Option<u64>,
        /// Then those that come, until it is interrupted
        #[arg(long)]
        follow: bool,
    },
    /// The configuration in force, without its secrets
    Config,
    /// Test the tunnel to an edge, its ports and its targets, and end with 0, 1 or 2 as `doctor` does; the token is needed
    Doctor { id: String },
    /// Let nothing new in, and end when the streams have ended; the token is needed
    Drain,
}

/// Runs the command to its end; gives the exit code.
#[expect(clippy::print_stderr, reason = "errors of a command for people")]
pub(crate) fn run(args: CtlArgs) -> u8 {
    let ran = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failed::usage(format!("failed to start: {error}")))
        .and_then(|runtime| runtime.block_on(args.run()));
    match ran {
        Ok(exit) => exit,
        Err(Failed { exit, message }) => {
            eprintln!("{}", plain(&message));
            exit
        }
    }
}

impl CtlArgs {
    async fn run(self) -> Result<u8, Failed> {
        let Self {
            place,
            json,
            command,
        } = self;
        let client = place.client()?;
        if let CtlCommand::Events {
            since,
            follow: true,
        } = command
        {
            return follow(&client, since, json).await.map(|()| DONE);
        }
        let reply = ask(&client, &command).await?;
        let answer = read(&client, &reply).map_err(|failed| command.failed(failed))?;
        if json {
            print(&format!("{}\n", String::from_utf8_lossy(&reply.body)))?;
        } else {
            let more = match command.more(&answer) {
                Some(path) => ask_more(&client, path).await,
                None => Value::Null,
            };
            print(&command.view(&answer, &more, now()))?;
        }
        Ok(command.exit(&answer))
    }
}

impl CtlCommand {
    /// Method, path and body.
    fn request(&self) -> Result<(&'static str, String, Option<String>), Failed> {
        let edge = |id: &str| format!("/api/v1/edges/{}", escaped(id));
        Ok(match self {
            Self::Status => ("GET", "/api/v1/status".to_owned(), None),
            Self::Edges => ("GET", "/api/v1/edges".to_owned(), None),
            Self::Edge { id } => ("GET", edge(id), None),
            Self::Put { id, file } => ("PUT", edge(id), Some(read_file(file)?)),
            Self::Delete { id } => ("DELETE", edge(id), None),
            Self::Token {
                id,
                hub_host,
                hub_port,
            } => {
                let mut body = json!({});
                if let Some(host) = hub_host {
                    body["hubHost"] = json!(host);
                }
                if let Some(port) = hub_port {
                    body["hubPort"] = json!(port);
                }
                let path = format!("{}/token", edge(id));
                ("POST", path, Some(body.to_string()))
            }
            Self::Pools { command } => {
                let (method, path) = pools::request(command.as_ref());
                (method, path, None)
            }
            Self::Streams { edge, limit } => {
                let edge = edge.as_ref().map(|edge| ("edge", escaped(edge)));
                let limit = limit.map(|limit| ("limit", limit.to_string()));
                ("GET", with_query("/api/v1/streams", [edge, limit]), None)
            }
            Self::Events { since, .. } => {
                let since = since.map(|since| ("since", since.to_string()));
                ("GET", with_query("/api/v1/events", [since, None]), None)
            }
            Self::Config => ("GET", "/api/v1/config".to_owned(), None),
            Self::Doctor { id } => ("POST", format!("{}/test", edge(id)), None),
            Self::Drain => ("POST", "/api/v1/drain".to_owned(), None),
        })
    }

    /// The error of the server, with the exit code and the arguments of this command.
    fn failed(&self, failed: Failed) -> Failed {
        // No answer is no warning.
        if matches!(self, Self::Doctor { .. }) {
            return Failed {
                exit: FAILED,
                ..failed
            };
        }
        if !matches!(self, Self::Token { .. }) {
            return failed;
        }
        let message = failed.message.replacen("hubHost: ", "--hub-host: ", 1);
        Failed {
            message: message.replacen("hubPort: ", "--hub-port: ", 1),
            ..failed
        }
    }

    /// The exit code after an answer.
    fn exit(&self, answer: &Value) -> u8 {
        if matches!(self, Self::Delete { .. }) && !views::list(&answer["unknown"]).is_empty() {
            return REFUSED;
        }
        if !matches!(self, Self::Doctor { .. }) {
            return DONE;
        }
        let checks = answer["checks"].as_array();
        let states = checks.into_iter().flatten().map(|check| &check["state"]);
        let states = states.map(|state| match state.as_str() {
            Some("ok") => DONE,
            Some("warning") => WARNED,
            _ => FAILED,
        });
        states.max().unwrap_or(FAILED)
    }

    /// A second question, whose answer is shown beside the first.
    fn more(&self, answer: &Value) -> Option<&'static str> {
        match self {
            Self::Status => away::question(answer),
            Self::Edges
            | Self::Edge { .. }
            | Self::Put { .. }
            | Self::Delete { .. }
            | Self::Token { .. }
            | Self::Pools { .. }
            | Self::Streams { .. }
            | Self::Events { .. }
            | Self::Config
            | Self::Doctor { .. }
            | Self::Drain => None,
        }
    }

    /// The answer for people; `now` is in ms since 1970.
    fn view(&self, answer: &Value, more: &Value, now: u64) -> String {
        match self {
            Self::Status => {
                let mut wrong = away::lines(answer, more);
                wrong.extend(pools::of_status(&answer["hub"]));
                views::status(answer, wrong, now)
            }
            Self::Edges => views::edges(answer, now),
            Self::Edge { .. } => views::edge(answer, now),
            Self::Put { .. } => change::put(answer),
            Self::Delete { .. } => change::deleted(answer),
            Self::Token { .. } => views::token(answer),
            Self::Pools { command } => pools::view(command.as_ref(), answer),
            Self::Streams { .. } => views::streams(answer, now),
            Self::Events { .. } => views::events(answer),
            Self::Config => views::config(answer),
            Self::Doctor { .. } => doctor::table(answer) + "\n",
            Self::Drain => {
                "It drains: nothing new is let in, and it ends when its streams have, or after drainTimeoutSecs.\n"
                    .to_owned()
            }
        }
    }
}

/// The answer to a question that only adds to another; null where there is none.
async fn ask_more(client: &Client, path: &str) -> Value {
    let Ok(method) = "GET".parse() else {
        return Value::Null;
    };
    let asked = client.ask(method, path, None).await;
    let answer = asked.ok().and_then(|reply| read(client, &reply).ok());
    answer.unwrap_or_default()
}

/// Shows events as they come, until the server ends or whoever reads has gone.
async fn ask(client: &Client, command: &CtlCommand) -> Result<Reply, Failed> {
    let (method, path, body) = command.request()?;
    let method = method.parse().map_err(|_| Failed::usage("no method"))?;
    let asked = client.ask(method, &path, body).await;
    asked.map_err(|error| unreached(client, &error))
}

/// Shows the latest events, and then others as they come, until the server ends or whoever reads has gone.
async fn follow(client: &Client, since: Option<u64>, is_json: bool) -> Result<(), Failed> {
    let latest = CtlCommand::Events {
        since,
        follow: false,
    };
    let answer = read(client, &ask(client, &latest).await?)?;
    let (events, lost) = (views::list(&answer["events"]), &answer["lost"]);
    if is_json {
        let lines: Vec<String> = events.iter().map(|event| format!("{event}\n")).collect();
        print(&lines.concat())?;
    } else if !events.is_empty() || lost.as_u64().is_some_and(|lost| lost > 0) {
        print(&views::events(&answer))?;
    }
    let next = answer["next"].as_u64().or(since);
    let next = next.map(|next| ("since", next.to_string()));
    let path = with_query("/api/v1/events/stream", [next, None]);
    let each = |data: &str| {
        let line = if is_json {
            format!("{data}\n")
        } else {
            serde_json::from_str(data).map_or_else(|_| String::new(), |event| views::event(&event))
        };
        print(&line).is_ok()
    };
    let followed = client.follow(&path, each).await;
    match followed.map_err(|error| unreached(client, &error))? {
        Some(reply) => read(client, &reply).map(|_| ()),
        None => Ok(()),
    }
}

/// The JSON of an answer, or the error that it is.
fn read(client: &Client, reply: &Reply) -> Result<Value, Failed> {
    let body: Option<Value> = serde_json::from_slice(&reply.body).ok();
    let text = |field: &str| body.as_ref()?["error"][field].as_str();
    match (reply.status, &body) {
        (200, Some(_)) => body.ok_or_else(|| Failed::usage("no body")),
        (status, _) => {
            let mut message = match (text("code"), text("message")) {
                (Some(code), Some(message)) => format!("{code}: {message}"),
                _ => format!(
                    "the server answered with status {status} and without a code; is it the admin server of remoteingress, of the same version?"
                ),
            };
            if status == 401 && client.token.is_none() {
                message += " (ctl: name the file of the token with --token-file, or the configuration with --config)";
            }
            Err(Failed {
                exit: REFUSED,
                message,
            })
        }
    }
}

fn unreached(client: &Client, error: &std::io::Error) -> Failed {
    Failed::usage(format!(
        "failed to ask the admin server at {}: {error}; see that the hub or edge runs with admin.listen at this place, and that you are its user or root",
        client.place
    ))
}

fn read_file(path: &PathBuf) -> Result<String, Failed> {
    let mut text = String::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin()
            .take(MAX_FILE + 1)
            .read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_string(&mut text))
    };
    let object = match read {
        Ok(_) if text.len() as u64 > MAX_FILE => {
            Err("has more than 1 MiB; the server takes no larger edge".to_owned())
        }
        Ok(_) => object(text),
        Err(error) => Err(format!("failed to read it: {error}")),
    };
    object.map_err(|problem| Failed::usage(format!("--file: {}: {problem}", path.display())))
}

/// The text, if it is a JSON object. It may hold a secret, so that no part of it is shown.
fn object(text: String) -> Result<String, String> {
    match serde_json::from_str(&text) {
        Ok(Value::Object(_)) => Ok(text),
        Ok(_) => Err(
            "must be a JSON object with the fields of one allowed edge, for instance {\"listenPorts\": [443]}"
                .to_owned(),
        ),
        Err(error) => Err(format!(
            "is not JSON, see line {} column {}",
            error.line(),
            error.column()
        )),
    }
}

fn now() -> u64 {
    remoteingress_observe::clock::unix_millis(SystemTime::now())
}

fn print(text: &str) -> Result<(), Failed> {
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|error| Failed::usage(format!("failed to write to stdout: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use remoteingress_admin::client::Place;
    use remoteingress_proto::token::secret::Secret;

    #[test]
    fn a_file_is_a_json_object_and_is_not_shown() {
        let text = "{\"listenPorts\": [443]}\n";
        assert_eq!(object(text.to_owned()).unwrap(), text);
        for (text, says) in [
            ("[]", "must be a JSON object"),
            ("", "line 1 column 0"),
            ("{\n\"secret\": canary}", "line 2 column 11"),
        ] {
            let problem = object(text.to_owned()).unwrap_err();
            assert!(problem.contains(says), "{problem}");
            assert!(!problem.contains("canary"), "{problem}");
        }
    }

    #[test]
    fn a_test_ends_with_its_worst_check() {
        let doctor = CtlCommand::Doctor { id: "a".to_owned() };
        for (states, exit) in [
            (&["ok", "ok"][..], DONE),
            (&["ok", "warning"], WARNED),
            (&["failure", "warning", "ok"], FAILED),
            (&["of a later version"], FAILED),
            (&[], FAILED),
        ] {
            let checks: Vec<Value> = states.iter().map(|state| json!({"state": state})).collect();
            assert_eq!(doctor.exit(&json!({"checks": checks})), exit, "{states:?}");
        }
        assert_eq!(CtlCommand::Status.exit(&json!({})), DONE);
        let delete = CtlCommand::Delete { id: "a".to_owned() };
        assert_eq!(delete.exit(&json!({"removed": ["a"], "unknown": []})), DONE);
        assert_eq!(
            delete.exit(&json!({"removed": [], "unknown": ["a"]})),
            REFUSED
        );
    }

    #[test]
    fn an_error_has_its_code_and_ends_with_one() {
        let reply = |status, body: &str| Reply {
            status,
            body: body.as_bytes().to_vec(),
        };
        let refused = reply(
            404,
            r#"{"error": {"code": "E_UNKNOWN_EDGE", "message": "none"}}"#,
        );
        let mut client = Client {
            place: Place::Unix("/run/a.sock".into()),
            token: None,
        };
        let failed = read(&client, &refused).err().unwrap();
        assert_eq!(
            (failed.exit, &*failed.message),
            (REFUSED, "E_UNKNOWN_EDGE: none")
        );
        let foreign = read(&client, &reply(502, "<html>")).err().unwrap();
        assert_eq!(foreign.exit, REFUSED);
        assert_eq!(read(&client, &reply(200, "{}")).ok().unwrap(), json!({}));
        // Where to name the token is said to a caller who has sent none.
        let is_advised = |client: &Client, status| {
            let failed = read(client, &reply(status, "{}")).err().unwrap();
            failed.message.contains("--token-file")
        };
        assert!(is_advised(&client, 401) && !is_advised(&client, 403));
        client.token = Some(Secret::new("0123456789abcdef".to_owned()));
        assert!(!is_advised(&client, 401));
    }

    #[test]
    fn a_token_names_the_arguments_and_not_the_fields() {
        let token = CtlCommand::Token {
            id: "a".to_owned(),
            hub_host: None,
            hub_port: None,
        };
        let failed = |message: &str| Failed {
            exit: REFUSED,
            message: message.to_owned(),
        };
        let told = token.failed(failed("E_INVALID_CONFIG: hubHost: is missing"));
        assert_eq!(told.message, "E_INVALID_CONFIG: --hub-host: is missing");
    }
}
