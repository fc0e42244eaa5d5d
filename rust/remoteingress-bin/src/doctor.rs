//! The command `doctor`: looks for what would keep a hub or an edge from working, before it starts.
//!
//! - [`patient`]: what is examined;
//! - [`machine`]: this machine: files, clock, limits, tunnel port;
//! - [`places`]: what a start takes on this machine;
//! - [`peer`]: the other end of the tunnel, where this one dials;
//! - [`target`]: the targets of a hub;
//! - [`table`]: the report for people.
//!
//! The conclusions are drawn in `remoteingress-core` `doctor/`.

mod machine;
mod patient;
mod peer;
mod places;
mod table;
pub(crate) mod target;

use remoteingress_config::doctor::{Check, CheckName, DoctorReport};

pub(crate) use patient::{Config, Patient, ReadFile};
pub(crate) use table::table;

/// Makes all checks. Each has a deadline of its own, and those that wait for others run at the same time.
pub(crate) async fn examine(patient: Patient) -> DoctorReport {
    let Patient { config, mut files } = patient;
    let config = match config {
        Ok(config) => config,
        Err(error) => {
            let mut checks = vec![Check::failure(
                CheckName::Configuration,
                error.to_string(),
                "correct what the message names; docs/configuration.md has every field",
            )];
            checks.extend(machine::files(&files));
            return DoctorReport { checks };
        }
    };
    files.extend(machine::named_files(&config));
    let mut checks = configuration(&config);
    checks.extend(machine::files(&files));
    checks.extend(machine::machine(&config, &files));
    checks.extend(places::places(&config));
    let (port, others) = match &config {
        Config::Hub(config) => {
            let edges = peer::edges(config);
            let pools = target::Pools::configured(config);
            let (port, edges, targets) = tokio::join!(
                machine::hub_port(config),
                edges,
                target::targets(config, &config.edges, &pools)
            );
            (port, [edges, targets].concat())
        }
        Config::Edge(config) => tokio::join!(machine::edge_port(config), peer::hub(config)),
    };
    checks.extend(port);
    checks.extend(others);
    DoctorReport { checks }
}

fn configuration(config: &Config) -> Vec<Check> {
    let name = CheckName::Configuration;
    let (seen, warnings) = match config {
        Config::Hub(config) => {
            let edges = config.edges.len();
            (format!("a hub with {edges} edges"), config.warnings())
        }
        Config::Edge(config) => (format!("edge {}", config.edge_id), config.warnings()),
    };
    let advice = "it works, but change it: see docs/configuration.md";
    let warnings = warnings.into_iter();
    let warnings = warnings.map(|seen| Check::warning(name, seen, advice));
    [Check::ok(name, seen)]
        .into_iter()
        .chain(warnings)
        .collect()
}
