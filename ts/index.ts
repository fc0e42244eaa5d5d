// Public ports on an edge, forwarded through one encrypted tunnel to a private hub.
export { RemoteIngressEdge } from './classes.remoteingressedge.js';
export {
  RemoteIngressError,
  type TRemoteIngressErrorCode,
  type TWrapperErrorCode,
} from './classes.remoteingresserror.js';
export { RemoteIngressHub } from './classes.remoteingresshub.js';
export {
  createSecret,
  decodeConnectionToken,
  encodeConnectionToken,
  type IConnectionToken,
  type IDecodedConnectionToken,
} from './functions.token.js';
export type * from './interfaces/index.js';
