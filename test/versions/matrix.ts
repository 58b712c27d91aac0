/** One line of the table: what the packed package runs with. */
export interface Row {
  readonly node: 20 | 22 | 24
  readonly store: 'sqlite' | 'redis' | 'postgres'
  readonly sdk: 'v1' | 'v2'
  /** The store gets a client of this package. Default: a URL. */
  readonly client?: 'ioredis' | 'redis' | 'pg'
  /** The server is one over stdio, a process for each session. */
  readonly stdio?: true
  /** Beside the package; `newest` is that of the range that package.json has. */
  readonly packages: Readonly<Record<string, string>>
}

const V1 = { '@modelcontextprotocol/sdk': '^1.32.2' }
const V2 = { '@modelcontextprotocol/server': '^2.4.0' }
const SQLITE = { 'better-sqlite3': '^12.11.1' }
const REDIS = { ioredis: '^6.0.0' }
const POSTGRES = { pg: '^8.23.1' }

/** Each range that package.json and the README name, at both of its ends; everything else is the newest. */
export const MATRIX: readonly Row[] = [
  // Node
  { node: 20, store: 'sqlite', sdk: 'v1', packages: { ...V1, ...SQLITE } },
  { node: 22, store: 'sqlite', sdk: 'v1', packages: { ...V1, ...SQLITE } },
  { node: 24, store: 'sqlite', sdk: 'v1', packages: { ...V1, 'better-sqlite3': '^13.2.0' } },
  { node: 22, store: 'redis', sdk: 'v2', packages: { ...V2, ...REDIS } },
  { node: 24, store: 'redis', sdk: 'v1', packages: { ...V1, ...REDIS } },
  { node: 22, store: 'postgres', sdk: 'v1', packages: { ...V1, ...POSTGRES } },
  { node: 24, store: 'postgres', sdk: 'v2', packages: { ...V2, ...POSTGRES } },
  // The SDKs
  { node: 20, store: 'sqlite', sdk: 'v1', packages: { '@modelcontextprotocol/sdk': '1.30.0', ...SQLITE } },
  { node: 20, store: 'sqlite', sdk: 'v2', packages: { '@modelcontextprotocol/server': '2.0.0', ...SQLITE } },
  { node: 20, store: 'sqlite', sdk: 'v2', packages: { ...V2, ...SQLITE } },
  ...['2.0.0', '^2.4.0'].map((version): Row => {
    const sdk = { '@modelcontextprotocol/server': version, '@modelcontextprotocol/client': version }
    return { node: 20, store: 'sqlite', sdk: 'v2', stdio: true, packages: { ...sdk, ...SQLITE } }
  }),
  // The drivers
  { node: 20, store: 'sqlite', sdk: 'v1', packages: { ...V1, 'better-sqlite3': '12.0.0' } },
  { node: 20, store: 'redis', sdk: 'v1', packages: { ...V1, ioredis: '5.4.0' } },
  { node: 20, store: 'redis', sdk: 'v1', packages: { ...V1, ioredis: '^5.11.1' } },
  { node: 20, store: 'redis', sdk: 'v1', packages: { ...V1, ...REDIS } },
  { node: 20, store: 'redis', sdk: 'v1', client: 'ioredis', packages: { ...V1, ioredis: '5.4.0' } },
  { node: 20, store: 'redis', sdk: 'v1', client: 'redis', packages: { ...V1, redis: '5.0.0' } },
  { node: 20, store: 'redis', sdk: 'v1', client: 'redis', packages: { ...V1, redis: '^6.3.1' } },
  { node: 20, store: 'postgres', sdk: 'v1', packages: { ...V1, pg: '8.11.0' } },
  { node: 20, store: 'postgres', sdk: 'v1', client: 'pg', packages: { ...V1, ...POSTGRES } },
]
