//! Hub and edge of the remoteingress tunnel: an ingress for clusters without a public port.

mod acceptor;
mod access;
mod command_line;
mod ctl;
mod doctor;
mod edge;
mod engine;
mod hub;
mod ipc;
mod listing;
mod logging;
mod reload;
mod terminal;
mod tunnel_port;
mod version;

use remoteingress_config::error::{CodedError, ErrorCode};
use std::process::ExitCode;
use tokio::task::LocalSet;

fn main() -> ExitCode {
    let cli = match command_line::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(code) => return code.into(),
    };
    if let Some(command_line::Commands::Ctl(args)) = cli.command {
        return ctl::run(args).into();
    }
    let ran = run(cli);
    let code = match ran {
        Ok(code) => code.into(),
        Err(error) => {
            tracing::error!(code = error.code.as_str(), "{error}");
            1
        }
    };
    logging::flush();
    // Threads that block on stdin or stdout have no other end.
    std::process::exit(code)
}

/// The exit code, unless it has failed.
fn run(cli: command_line::Cli) -> Result<u8, CodedError> {
    let internal = |error: std::io::Error| {
        CodedError::new(ErrorCode::Internal, format!("failed to start: {error}"))
    };
    logging::start().map_err(internal)?;
    command_line::hide_token(&cli)?;
    remoteingress_os::process_options::protect_memory().map_err(internal)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(internal)?;
    let ran = LocalSet::new().block_on(&runtime, async {
        match cli.command {
            Some(command) => command_line::run(command).await,
            None if cli.management => {
                remoteingress_os::process_options::end_with_parent().map_err(internal)?;
                let signals = remoteingress_os::signals::Signals::listen().map_err(internal)?;
                ipc::serve(signals).await.map_err(internal)?;
                Ok(0)
            }
            None => Err(CodedError::new(
                ErrorCode::InvalidConfig,
                "nothing to do: give a command or --management; see --help",
            )),
        }
    });
    // A lookup that a name server doesn't answer must not hold up the end.
    runtime.shutdown_background();
    ran
}
