// The files of ts/interfaces/ that come from the schema.
import {
  aliasOf,
  commentLines,
  describe,
  header,
  interfaceOf,
  nameInTypeScript,
  typeOf,
  unionOf,
} from './typescript.mjs';

/** The unions of `reasons.ts`. */
const reasons = [
  'ErrorCode',
  'PortErrorCode',
  'PortState',
  'Protocol',
  'Transport',
  'DialledBy',
  'StreamCloseReason',
  'TunnelRefusalReason',
  'HubRefusalReason',
  'TargetDownReason',
  'EdgeRefusalReason',
  'UdpDropReason',
  'PickReason',
];

const hubExample = ["await hub.start({ tunnelPort: 8443, targetHost: '10.0.0.5', stateDir: './hub-state' });"];
const allowedEdgeExample = [
  "const edge: IAllowedEdge = { id: 'edge-1', secret: createSecret(), listenPorts: [443], listenPortsUdp: [443] };",
];
const poolExample = [
  "const web: IPool = { strategy: 'leastConnections', targets: [{ host: '10.0.0.5', port: 80 }, { host: '10.0.0.6', port: 80 }] };",
];
const edgeExample = [
  "await edge.start({ token, transportMode: 'quicWithFallback', allowedPorts: { tcp: [80, 443] } });",
];
const tcpExample = [
  "const listenPorts: TTcpPort[] = [443, '8000-8010', { port: 22, targetHost: '10.0.0.5', proxyProtocol: 'none' }];",
];
const udpExample = [
  "const listenPortsUdp: TUdpPort[] = [{ port: 53, targetPort: 5353, proxyProtocol: 'everyDatagram' }];",
];

/** Parameters and results that only the package itself sees. */
const internal = [
  'EdgesParams',
  'PoolsParams',
  'EdgeSetBegun',
  'EdgesPartParams',
  'EdgeSetCommit',
  'EdgesRemoval',
  'TokenParams',
  'TokenCreated',
  'Metrics',
  'SelfTestParams',
  'Subscription',
];

const byToken = ['token'];
const byParts = ['hubHost', 'hubPort', 'edgeId', 'secret', 'hubPins'];
const byListener = ['listenTunnel', 'edgeId', 'secret'];

/** @returns [[path, text]] */
export function sources(schema) {
  const files = {
    'reasons.ts': reasons.flatMap((name) => unionOf(schema, name)),
    'ports.ts': ports(schema),
    'engine.ts': engine(schema),
    'hub.ts': hub(schema),
    'pools.ts': pools(schema),
    'edge.ts': edge(schema),
    'events.ts': events(schema),
    'management.ts': management(schema),
  };
  const homes = new Map(Object.entries(files).flatMap(([file, lines]) => declared(lines).map((name) => [name, file])));
  assertComplete(schema, homes);
  return Object.entries(files).map(([file, lines]) => [`ts/interfaces/${file}`, fileOf(file, lines, homes)]);
}

function ports(schema) {
  const generic = {
    as: 'IPortObject<TProxyProtocol>',
    types: { proxyProtocol: 'TProxyProtocol' },
  };
  return [
    ...aliasOf(schema, 'PortText'),
    ...unionOf(schema, 'TcpProxyProtocol'),
    ...unionOf(schema, 'UdpProxyProtocol'),
    ...interfaceOf(schema, 'PortSpecTcpProxyProtocol', generic),
    ...aliasOf(schema, 'PortShapeTcpProxyProtocol', { doc: 'TCP port or ports of an edge.', example: tcpExample }),
    ...aliasOf(schema, 'PortShapeUdpProxyProtocol', { doc: 'UDP port or ports of an edge.', example: udpExample }),
    ...interfaceOf(schema, 'PortStatus'),
    ...interfaceOf(schema, 'PortError'),
    ...interfaceOf(schema, 'UdpStatus'),
  ];
}

function hub(schema) {
  const tokenTarget = { as: 'ITokenTarget', doc: 'Address at which an edge finds its hub.', without: ['edgeId'] };
  return [
    ...interfaceOf(schema, 'HubConfig', { example: hubExample }),
    ...interfaceOf(schema, 'HubTls'),
    ...interfaceOf(schema, 'HubLimits'),
    ...interfaceOf(schema, 'AllowedEdge', { example: allowedEdgeExample }),
    ...unionOf(schema, 'ClientAddressPolicy'),
    ...interfaceOf(schema, 'EdgeDial'),
    ...interfaceOf(schema, 'HubStarted'),
    ...interfaceOf(schema, 'AllowedEdgesChange'),
    ...interfaceOf(schema, 'EdgesRemoved'),
    ...interfaceOf(schema, 'TokenParams', tokenTarget),
    ...interfaceOf(schema, 'HubStatus'),
    ...interfaceOf(schema, 'ConnectedEdge'),
    ...interfaceOf(schema, 'UnreachableEdge'),
    ...interfaceOf(schema, 'SelfTestReport', { example: ["const { checks } = await hub.selfTest('edge-1');"] }),
  ];
}

function pools(schema) {
  return [
    ...interfaceOf(schema, 'Pool', { example: poolExample }),
    ...unionOf(schema, 'Strategy'),
    ...interfaceOf(schema, 'PoolTarget'),
    ...interfaceOf(schema, 'Affinity'),
    ...interfaceOf(schema, 'PoolQueue'),
    ...interfaceOf(schema, 'PoolCheck'),
    ...unionOf(schema, 'CheckKind'),
    ...interfaceOf(schema, 'DiscoverConfig'),
    ...unionOf(schema, 'DiscoverKind'),
    ...unionOf(schema, 'UdpUnhealthy'),
    ...interfaceOf(schema, 'PoolsChange'),
    ...interfaceOf(schema, 'PoolStatus'),
    ...interfaceOf(schema, 'TargetStatus'),
    ...interfaceOf(schema, 'DiscoveryStatus'),
    ...unionOf(schema, 'DiscoveryState'),
    ...unionOf(schema, 'TargetSource'),
    ...unionOf(schema, 'TargetAdmin'),
    ...unionOf(schema, 'TargetState'),
    ...interfaceOf(schema, 'TargetStateParams'),
    ...interfaceOf(schema, 'ExplainParams'),
    ...interfaceOf(schema, 'PoolExplained', { example: ["const { targets } = await hub.explainPool({ pool: 'web', client: '192.0.2.1' });"] }),
    ...interfaceOf(schema, 'TargetExplained'),
    ...interfaceOf(schema, 'RoutingDbStatus'),
    ...interfaceOf(schema, 'RefusedRow'),
    ...interfaceOf(schema, 'GeoStatus'),
    ...interfaceOf(schema, 'GeoConfig'),
    ...interfaceOf(schema, 'RoutingDbConfig'),
  ];
}

/** What hub and edge have in common. */
function engine(schema) {
  return [
    ...unionOf(schema, 'TransportMode'),
    ...interfaceOf(schema, 'StreamsByTransport'),
    ...interfaceOf(schema, 'SessionsByTransport'),
    ...interfaceOf(schema, 'QueuedBytes'),
    ...interfaceOf(schema, 'MemoryBudget'),
    ...unionOf(schema, 'CongestionController'),
    ...unionOf(schema, 'LogFormat'),
    ...interfaceOf(schema, 'AdminConfig'),
    ...interfaceOf(schema, 'AccessLogConfig'),
    ...unionOf(schema, 'StreamTier'),
    ...unionOf(schema, 'WaitsFor'),
    ...interfaceOf(schema, 'StreamsParams', { example: ['const { streams, total } = await hub.getStreams({ edgeId: \'edge-1\', limit: 10 });'] }),
    ...interfaceOf(schema, 'StreamList'),
    ...interfaceOf(schema, 'StreamStatus'),
    ...interfaceOf(schema, 'DoctorReport'),
    ...interfaceOf(schema, 'Check'),
    ...unionOf(schema, 'CheckState'),
    ...unionOf(schema, 'CheckName'),
  ];
}

function edge(schema) {
  const doc = (text) => ({ doc: text });
  return [
    ...commentLines(describe(schema.comment('EdgeConfig')), '', edgeExample),
    'export type IEdgeConfig = (IEdgeByToken | IEdgeByParts | IEdgeByListener) & IEdgeSettings;',
    '',
    ...interfaceOf(schema, 'EdgeConfig', {
      ...doc('Names the hub by a connection token.'),
      as: 'IEdgeByToken',
      only: byToken,
      required: byToken,
    }),
    ...interfaceOf(schema, 'EdgeConfig', {
      ...doc('Names the hub by the fields of a connection token.'),
      as: 'IEdgeByParts',
      only: byParts,
      required: ['hubHost', 'edgeId', 'secret'],
    }),
    ...interfaceOf(schema, 'EdgeConfig', {
      ...doc('Listens for a hub that dials.'),
      as: 'IEdgeByListener',
      only: byListener,
      required: byListener,
    }),
    ...interfaceOf(schema, 'EdgeConfig', {
      ...doc('Settings of an edge. Times are whole seconds.'),
      as: 'IEdgeSettings',
      without: [...byToken, ...byParts, ...byListener],
    }),
    ...interfaceOf(schema, 'ListenTunnel'),
    ...interfaceOf(schema, 'AllowedPorts'),
    ...interfaceOf(schema, 'EdgeLimits'),
    ...interfaceOf(schema, 'EdgeStatus'),
  ];
}

function events(schema) {
  const data = [...new Set(schema.events.map((event) => event.data))].filter((name) => name !== 'Ready');
  const map = (doc, name, of, base = '') => [
    `/** ${doc} */`,
    `export interface ${name}${base} {`,
    ...schema.events
      .filter((event) => event.Of === of)
      .flatMap((event) => [
        ...commentLines(describe(event), '  '),
        `  ${event.name}: [${nameInTypeScript(schema, event.data)}];`,
      ]),
    '}',
    '',
  ];
  const common = 'Events of hub and edge alike. `streamOpened` and `streamClosed` cost nothing while nobody listens.';
  return [
    ...data.flatMap((name) => interfaceOf(schema, name)),
    ...interfaceOf(schema, 'ChosenTarget'),
    ...map(common, 'ICommonEvents', 'both', ' extends ISupervisionEvents'),
    ...map('Events of a hub.', 'IHubEvents', 'hub', ' extends ICommonEvents'),
    ...map('Events of an edge.', 'IEdgeEvents', 'edge', ' extends ICommonEvents'),
  ];
}

function management(schema) {
  const commands = schema.commands.flatMap((command) => [
    ...commentLines(describe(command), '  '),
    `  ${command.name}: { params: ${typeOf(schema, command.params)}; result: ${typeOf(schema, command.result)} };`,
  ]);
  return [
    '/** The only version of the management interface that this package speaks; `ready` names the binary\'s. */',
    `export const managementProtocolVersion = ${schema.ipcVersion};`,
    '',
    ...interfaceOf(schema, 'Ready'),
    ...unionOf(schema, 'Feature'),
    '/** An empty object. */',
    'export type TNothing = Record<string, never>;',
    '',
    ...unionOf(schema, 'Subscribable'),
    ...internal.flatMap((name) => interfaceOf(schema, name)),
    '/** Methods, by name. */',
    'export type TCommands = {',
    ...commands,
    '};',
    '',
    '/** Name of a method. */',
    'export type TMethod = keyof TCommands;',
    '',
  ];
}

const declaration = /^export (?:interface|type|const) (\w+)/;

function declared(lines) {
  return lines.map((line) => declaration.exec(line)?.[1]).filter(Boolean);
}

/** A file with its imports: every type that another file declares. */
function fileOf(file, lines, homes) {
  const code = lines.filter((line) => !/^ *(\/\*\*| \*)/.test(line)).join('\n');
  const used = new Set([...code.matchAll(/\b[IT][A-Z]\w+/g)].map(([name]) => name));
  const imports = new Map();
  for (const name of [...used].sort()) {
    const home = name === 'ISupervisionEvents' ? 'supervision.ts' : homes.get(name);
    if (home && home !== file) imports.set(home, [...(imports.get(home) ?? []), name]);
  }
  const statements = [...imports]
    .sort(([one], [other]) => (one < other ? -1 : 1))
    .map(([home, names]) => `import type { ${names.join(', ')} } from './${home.replace('.ts', '.js')}';`);
  return `${[header, ...statements, '', ...lines].join('\n').trimEnd()}\n`;
}

/** No type of the interface is forgotten: those without a name in TypeScript stand here. */
function assertComplete(schema, homes) {
  const unnamed = ['Event', 'Method', 'EdgeConfig', 'PortSpecTcpProxyProtocol', 'PortSpecUdpProxyProtocol'];
  for (const name of schema.names.filter((one) => !unnamed.includes(one))) {
    if (!homes.has(nameInTypeScript(schema, name))) throw new Error(`no file of ts/interfaces/ declares ${name}`);
  }
}
