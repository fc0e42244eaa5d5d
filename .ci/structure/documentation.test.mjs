import { documentation } from './rules/documentation.mjs';
import { crate, showsFailure } from './scene.mjs';

const shared =
  '[workspace.lints.rust]\nmissing_docs = "warn" # shown to others\n\n[workspace.lints.clippy]\nundocumented_unsafe_blocks = "warn"\n';
const workspace = (root, manifest, lib = '') => ({
  files: { ...crate('core', { 'lib.rs': lib }), 'Cargo.toml': root, 'rust/remoteingress-core/Cargo.toml': manifest },
});
const mended = workspace(shared, '[package]\nname = "x"\n\n[lints]\nworkspace = true\n');

showsFailure("a library doesn't inherit the lints", documentation, {
  broken: workspace(shared, '[package]\nname = "x"\n'),
  mended,
  says: [/remoteingress-core doesn't ask for missing_docs: add \[lints\]/, /undocumented_unsafe_blocks/],
});

showsFailure('the workspace has turned a lint off', documentation, {
  broken: workspace(shared.replace('missing_docs = "warn"', 'missing_docs = "allow"'), '[lints]\nworkspace = true\n'),
  mended,
  says: [/doesn't ask for missing_docs: add missing_docs = "warn" to \[workspace\.lints\.rust\]/],
});

showsFailure('a library asks for only one of them itself', documentation, {
  broken: workspace('', '', '//! Text.\n#![warn(missing_docs)]\n'),
  mended: workspace('', '', '//! Text.\n#![warn(missing_docs, clippy::undocumented_unsafe_blocks)]\n'),
  says: [/undocumented_unsafe_blocks/],
});
