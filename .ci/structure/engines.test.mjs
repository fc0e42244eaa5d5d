import { enginesApart } from './rules/engines.mjs';
import { crate, showsFailure } from './scene.mjs';

const bin = (files) => ({
  files: crate('bin', {
    'main.rs': 'mod edge; mod hub; mod engine; mod limits;',
    'edge.rs': 'mod worker;',
    'hub.rs': 'mod state; pub(crate) struct Hub;',
    'hub/state.rs': 'pub(crate) fn limit() {}',
    'engine.rs': 'use crate::hub::Hub;\nenum Engine { Hub(Hub) }',
    'limits.rs': 'pub(crate) fn limit() {}',
    'edge/worker.rs': '',
    ...files,
  }),
});
const mended = bin({ 'edge/worker.rs': 'use crate::limits::limit;\nfn run() { limit() }' });

showsFailure('edge imports a type of hub', enginesApart, {
  broken: bin({ 'edge/worker.rs': 'use crate::{hub::Hub, limits};\nfn run(_: Hub) {}' }),
  mended,
  says: [/edge\/worker\.rs:1 edge\/ imports Hub of hub\/: move what both need below them/],
});

showsFailure('edge reaches hub by super::super', enginesApart, {
  broken: bin({ 'edge/worker.rs': 'fn run() {\n    super::super::hub::state::limit()\n}' }),
  mended,
  says: [/edge\/worker\.rs:2 edge\/ imports limit of hub\//],
});

showsFailure('edge reaches hub through a name that another file hands on', enginesApart, {
  broken: bin({
    'edge/worker.rs': 'use crate::Hub;\nfn run(_: Hub) {}',
    'main.rs': 'mod edge; mod hub; mod engine; mod limits; pub(crate) use hub::Hub;',
  }),
  mended,
  says: [/edge\/worker\.rs:1 edge\/ imports Hub of hub\//],
});

showsFailure('a file below looks up to an engine', enginesApart, {
  broken: bin({ 'limits.rs': 'pub(crate) fn limit() { crate::hub::state::limit() }' }),
  mended,
  says: [/limits\.rs:1 imports limit of hub\/, which stands above it: only main, command_line, ipc, engine may/],
});

const core = (files) => ({
  files: crate('core', {
    'lib.rs': 'pub mod edge; pub mod hub; pub mod uplink;',
    'edge.rs': 'pub struct Load;',
    'hub.rs': 'use crate::uplink::Dial;\npub struct Hub(Dial);',
    'uplink.rs': 'pub struct Dial;',
    ...files,
  }),
});

showsFailure('an uplink knows an end', enginesApart, {
  broken: core({ 'uplink.rs': 'use crate::edge::Load;\npub struct Dial(Load);' }),
  mended: core({}),
  says: [/uplink\.rs:1 imports Load of edge\/, which stands above it/],
});

showsFailure('a tunnel knows an end', enginesApart, {
  broken: {
    files: crate('tunnel', {
      'lib.rs': 'use remoteingress_core::edge::Load;\nfn guard(_: Load) -> remoteingress_core::hub::Guard {}',
    }),
  },
  mended: { files: crate('tunnel', { 'lib.rs': 'use remoteingress_core::uplink::Load;\nfn guard(_: Load) {}' }) },
  says: [/lib\.rs:1 uses edge\/ of remoteingress_core/, /lib\.rs:2 uses hub\/ of remoteingress_core/],
});

showsFailure('the data plane speaks HTTP', enginesApart, {
  broken: bin({ 'edge/worker.rs': 'use hyper::Request;\nfn run(_: Request) { rusqlite::open() }' }),
  mended,
  says: [/edge\/worker\.rs:1 uses hyper/, /edge\/worker\.rs:2 uses rusqlite/],
});
