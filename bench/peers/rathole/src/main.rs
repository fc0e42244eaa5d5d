//! rathole's own main, less its console: reads the arguments and runs its library.

use anyhow::Result;
use clap::Parser;
use tokio::sync::broadcast;
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::from_default_env())
        .init();
    // Never sent to: the bench ends a peer by a signal.
    let (_shutdown, when_shut_down) = broadcast::channel(1);
    rathole::run(rathole::Cli::parse(), when_shut_down).await
}
