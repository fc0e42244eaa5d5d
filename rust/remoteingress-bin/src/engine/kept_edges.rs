//! Changes of edges over REST, and where they are kept: in a file of the state directory, over restarts, where a
//! configuration file says which edges there are; or as long as the process runs.

use crate::hub::control::HubControl;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use remoteingress_config::error::{CodedError, ErrorCode};
use remoteingress_config::overview::{EdgeDeleted, EdgePut, Kept, Origin};
use remoteingress_config::pool_rest::PoolKept;
use remoteingress_config::{AllowedEdge, AllowedEdgesChange, HubConfig, parse_edges};
use remoteingress_core::hub::rest_changes::{RestChange, RestChanges};
use remoteingress_os::{random, whole_file};
use remoteingress_proto::token::edge_id::EdgeId;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

/// The file in the state directory.
const FILE: &str = "edges.json";
/// A larger file isn't written, and one isn't ours: some 300,000 edges.
const MAX_FILE: usize = 64 * 1_024 * 1_024;
/// Lines about edges that stay removed, of which there may be many thousands.
const MAX_TOLD: usize = 20;
/// Of the file's form.
const VERSION: u32 = 1;

/// An edge, and how it was written.
#[derive(Debug)]
struct Entry {
    allowed: AllowedEdge,
    written: Value,
}

/// By what they mean.
impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.allowed == other.allowed
    }
}

/// The file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    version: u32,
    changes: Vec<WrittenChange>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenChange {
    id: EdgeId,
    now: Option<Value>,
    over: Option<Value>,
}

/// The changes over REST. Clones are the same.
#[derive(Clone)]
pub(crate) struct KeptEdges(Rc<Inner>);

struct Inner {
    kept: Kept,
    changes: RefCell<RestChanges<Entry>>,
    file: Option<PathBuf>,
    /// Changes come one after the other, since each waits for the disk.
    turn: Semaphore,
}

impl KeptEdges {
    /// Of a process that a program drives: that knows best, and so nothing outlives the process.
    pub(crate) fn under_program() -> Self {
        Self::new(Kept::UntilProgram, RestChanges::new(BTreeMap::new()), None)
    }

    fn new(kept: Kept, changes: RestChanges<Entry>, file: Option<PathBuf>) -> Self {
        Self(Rc::new(Inner {
            kept,
            changes: RefCell::new(changes),
            file,
            turn: Semaphore::new(1),
        }))
    }

    /// Of a hub with this configuration file, whose edges become those that are allowed after the changes of earlier
    /// runs.
    pub(crate) fn beside(config: &mut HubConfig, file: &Value) -> Result<Self, CodedError> {
        let path = config.state_dir.as_ref().map(|path| path.join(FILE));
        let special = config.allow_special_targets;
        let changes = match &path {
            Some(path) => read(path, special).map_err(|problem| damaged(path, &problem))?,
            None => BTreeMap::new(),
        };
        let mut changes = RestChanges::new(changes);
        tell(&changes.read(entries(config, file)));
        tell_removed(&changes);
        config.edges = allowed(&changes);
        let kept = match path {
            Some(_) => Kept::StateDir,
            None => Kept::UntilRestart,
        };
        Ok(Self::new(kept, changes, path))
    }

    /// The file was read again.
    pub(crate) async fn reload(
        &self,
        hub: &HubControl,
        mut config: HubConfig,
        file: &Value,
    ) -> AllowedEdgesChange {
        // It is never closed.
        let _turn = self.0.turn.acquire().await.ok();
        let mut changes = self.0.changes.borrow().clone();
        let overtaken = changes.read(entries(&mut config, file));
        tell(&overtaken);
        tell_removed(&changes);
        if !overtaken.is_empty()
            && let Err(error) = self.write(&changes).await
        {
            // They are overtaken at the next start, too.
            tracing::warn!(%error, "changes that the configuration file has overtaken stay in stateDir");
        }
        config.edges = allowed(&changes);
        *self.0.changes.borrow_mut() = changes;
        hub.reload(config)
    }

    /// Adds or replaces an edge. The secret of one that exists stays if the body has none; a new one gets one.
    pub(crate) async fn put(
        &self,
        hub: &HubControl,
        id: &str,
        mut edge: Value,
    ) -> Result<EdgePut, CodedError> {
        // It is never closed.
        let _turn = self.0.turn.acquire().await.ok();
        edge["id"] = json!(id);
        let secret_made = with_secret(hub, id, &mut edge);
        let entry = parse(edge, hub.allows_special_targets())?;
        let (id, allowed) = (entry.allowed.id.clone(), entry.allowed.clone());
        hub.check_pools(std::slice::from_ref(&allowed))?;
        self.keep(id, Some(Arc::new(entry))).await?;
        Ok(EdgePut {
            change: hub.upsert_edges(vec![allowed])?,
            secret_made,
            kept: self.0.kept,
            truth: self.0.kept.truth().to_owned(),
        })
    }

    /// Removes an edge.
    pub(crate) async fn delete(
        &self,
        hub: &HubControl,
        id: &str,
    ) -> Result<EdgeDeleted, CodedError> {
        // It is never closed.
        let _turn = self.0.turn.acquire().await.ok();
        let id = EdgeId::new(id).map_err(|error| CodedError::invalid_config("id", error))?;
        self.keep(id.clone(), None).await?;
        Ok(EdgeDeleted {
            change: hub.remove_edges(vec![id]),
            kept: self.0.kept,
            truth: self.0.kept.truth().to_owned(),
        })
    }

    /// How long changes of pools are kept: they aren't written.
    pub(crate) fn of_pools(&self) -> PoolKept {
        match self.0.kept {
            Kept::UntilProgram => PoolKept::UntilProgram,
            Kept::StateDir | Kept::UntilRestart => PoolKept::UntilReload,
        }
    }

    /// Who has said how this edge is to be.
    pub(crate) fn origin(&self, edge: &AllowedEdge) -> Origin {
        let changes = self.0.changes.borrow();
        let now = changes.changes().get(&edge.id).map(|change| &change.now);
        let is_of_rest =
            now.is_some_and(|now| now.as_ref().is_some_and(|now| now.allowed == *edge));
        match (is_of_rest, self.0.kept) {
            (true, _) => Origin::Rest,
            (false, Kept::UntilProgram) => Origin::Program,
            (false, Kept::StateDir | Kept::UntilRestart) => Origin::File,
        }
    }

    /// Keeps a change before it is made: one that isn't kept isn't made.
    async fn keep(&self, id: EdgeId, now: Option<Arc<Entry>>) -> Result<(), CodedError> {
        let mut changes = self.0.changes.borrow().clone();
        changes.record(id, now);
        self.write(&changes).await.map_err(|error| {
            let message = format!(
                "failed to keep the change in stateDir, so nothing has changed: {error}; see that this process can write there"
            );
            CodedError::new(ErrorCode::Internal, message)
        })?;
        *self.0.changes.borrow_mut() = changes;
        Ok(())
    }

    async fn write(&self, changes: &RestChanges<Entry>) -> io::Result<()> {
        let Some(path) = self.0.file.clone() else {
            return Ok(());
        };
        let written =
            |entry: &Option<Arc<Entry>>| entry.as_ref().map(|entry| entry.written.clone());
        let change = |(id, change): (&EdgeId, &RestChange<Entry>)| WrittenChange {
            id: id.clone(),
            now: written(&change.now),
            over: written(&change.over),
        };
        let file = Written {
            version: VERSION,
            changes: changes.changes().iter().map(change).collect(),
        };
        let bytes = serde_json::to_vec(&file)?;
        if bytes.len() > MAX_FILE {
            let message = format!(
                "{FILE} would have more than {MAX_FILE} bytes: write edges into the configuration file"
            );
            return Err(io::Error::other(message));
        }
        spawn_blocking(move || whole_file::replace(&path, &bytes)).await?
    }
}

/// Gives an edge the secrets that it has, or a new one; true: a new one.
fn with_secret(hub: &HubControl, id: &str, edge: &mut Value) -> bool {
    if edge.get("secret").is_some() {
        return false;
    }
    let allowed = EdgeId::new(id).ok().and_then(|id| hub.allowed(&id));
    let Some(allowed) = allowed else {
        edge["secret"] = json!(URL_SAFE_NO_PAD.encode(random::bytes::<32>()));
        return true;
    };
    edge["secret"] = json!(allowed.secret.expose());
    if edge.get("nextSecret").is_none()
        && let Some(next) = &allowed.next_secret
    {
        edge["nextSecret"] = json!(next.expose());
    }
    false
}

fn parse(edge: Value, special: bool) -> Result<Entry, CodedError> {
    let params = json!({ "edges": [edge] });
    let allowed = parse_edges(&params, special).map_err(|error| {
        let message = error.message.strip_prefix("edges[0].");
        CodedError::new(error.code, message.unwrap_or(&error.message))
    })?;
    let written = params["edges"][0].clone();
    let mut allowed = allowed.into_iter();
    allowed
        .next()
        .map(|allowed| Entry { allowed, written })
        .ok_or_else(|| CodedError::new(ErrorCode::Internal, "one edge gave none"))
}

/// The edges of a configuration file, which was checked.
fn entries(config: &mut HubConfig, file: &Value) -> BTreeMap<EdgeId, Arc<Entry>> {
    let written = file["edges"].as_array().into_iter().flatten();
    let edges = std::mem::take(&mut config.edges);
    let entry = |(allowed, written): (AllowedEdge, &Value)| {
        let written = written.clone();
        (allowed.id.clone(), Arc::new(Entry { allowed, written }))
    };
    edges.into_iter().zip(written).map(entry).collect()
}

fn allowed(changes: &RestChanges<Entry>) -> Vec<AllowedEdge> {
    let edges = changes.edges();
    edges.iter().map(|entry| entry.allowed.clone()).collect()
}

fn tell(overtaken: &[EdgeId]) {
    for edge in overtaken {
        tracing::info!(edge_id = %edge, "the configuration file has changed this edge: a change over REST counts no more");
    }
}

/// An edge that the file lists and REST has removed is in no list of edges.
fn tell_removed(changes: &RestChanges<Entry>) {
    let removed = changes.changes().iter();
    let mut removed = removed.filter(|(_, change)| change.now.is_none());
    for (edge, _) in removed.by_ref().take(MAX_TOLD) {
        tracing::info!(edge_id = %edge, "this edge of the configuration file stays removed by REST; PUT /api/v1/edges/ID (ctl put ID) brings it back, and so does a change of its entry");
    }
    let more = removed.count();
    if more > 0 {
        tracing::info!(
            more,
            "further edges of the configuration file stay removed by REST"
        );
    }
}

type Changes = BTreeMap<EdgeId, RestChange<Entry>>;

fn read(path: &Path, special: bool) -> Result<Changes, String> {
    let file = match std::fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Changes::new()),
        Err(error) => return Err(format!("failed to read it: {error}")),
        Ok(file) => file,
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("failed to read it: {error}"))?;
    if bytes.len() > MAX_FILE {
        return Err(format!("has more than {MAX_FILE} bytes"));
    }
    // The words of serde could quote a secret.
    let written: Written = serde_json::from_slice(&bytes).map_err(|error| {
        format!(
            "is damaged at line {}, column {}",
            error.line(),
            error.column()
        )
    })?;
    if written.version != VERSION {
        return Err(format!(
            "has the version {}, not {VERSION}",
            written.version
        ));
    }
    let mut changes = Changes::new();
    for WrittenChange { id, now, over } in written.changes {
        let entry = |edge: Option<Value>| edge.map(|edge| parse(edge, special)).transpose();
        let read = |edge| match entry(edge) {
            Ok(entry) => Ok(entry.map(Arc::new)),
            Err(error) => Err(format!("has the edge {id:?}, of which {}", error.message)),
        };
        let change = RestChange {
            now: read(now)?,
            over: read(over)?,
        };
        changes.insert(id, change);
    }
    Ok(changes)
}

/// To go on without it could let edges in again that were removed.
fn damaged(path: &Path, problem: &str) -> CodedError {
    let problem = format!(
        "{problem}; it holds what was changed over REST: mend it, or move it away to start with the edges of the configuration file alone"
    );
    CodedError::invalid_config(path.display(), problem)
}
