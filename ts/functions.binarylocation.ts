// Finds the binary and decides what of our environment it may see.
import { RemoteIngressError } from './classes.remoteingresserror.js';
import * as plugins from './plugins.js';

export const binaryName = 'remoteingress-bin';

/** Place where the build puts it; the locator appends the platform, as in `remoteingress-bin_linux_amd64`. */
const packagedPath = plugins.url.fileURLToPath(new URL(`../dist_rust/${binaryName}`, import.meta.url));

/** A path that was asked for is taken or refused; nothing else is run in its place. */
export async function locateBinary(binaryPath?: string): Promise<string> {
  const asked = binaryPath ?? process.env['REMOTEINGRESS_BIN'];
  if (asked) {
    const absolute = plugins.path.resolve(asked);
    if (await isExecutableFile(absolute)) return absolute;
    const origin = binaryPath ? 'binaryPath' : 'REMOTEINGRESS_BIN';
    throw new RemoteIngressError('E_BINARY_NOT_FOUND', `${origin}: no executable file at ${absolute}`);
  }
  const locator = new plugins.smartrust.RustBinaryLocator({
    binaryName,
    localPaths: [packagedPath],
    searchSystemPath: false,
  });
  const found = await locator.findBinary();
  if (found) return found;
  throw new RemoteIngressError(
    'E_BINARY_NOT_FOUND',
    `no ${binaryName} for ${process.platform} ${process.arch} at ${packagedPath}*; ` +
      'build it with `npm run build`, or name one in REMOTEINGRESS_BIN',
  );
}

async function isExecutableFile(path: string): Promise<boolean> {
  try {
    await plugins.fs.promises.access(path, plugins.fs.constants.X_OK);
    return (await plugins.fs.promises.stat(path)).isFile();
  } catch {
    return false;
  }
}

/** Variables by which the binary finds files, name servers, CA certificates and its log level; secrets go by stdin. */
const passedVariables = new Set([
  'PATH',
  'HOME',
  'TMPDIR',
  'TZ',
  'LANG',
  'LC_ALL',
  'LD_LIBRARY_PATH',
  'LOCALDOMAIN',
  'RES_OPTIONS',
  'SSL_CERT_FILE',
  'SSL_CERT_DIR',
  'RUST_BACKTRACE',
  'REMOTEINGRESS_LOG',
]);

/**
 * Takes everything else away from the child: RustBridge lays this over the whole `process.env`, and Node leaves out
 * variables whose value is undefined (which RustBridge's type doesn't foresee).
 */
export function environmentForBinary(restarts: number): Record<string, string> {
  const removed = Object.keys(process.env).filter((name) => !passedVariables.has(name));
  const environment = Object.fromEntries(removed.map((name) => [name, undefined]));
  return { ...environment, REMOTEINGRESS_RESTARTS: String(restarts) } as unknown as Record<string, string>;
}
