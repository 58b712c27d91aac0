import type { Command } from 'commander'
import { maskUrl } from '../../errors.ts'
import { openStore } from '../../store/open-store.ts'
import { resolveTarget } from '../../store/postgres/postgres-options.ts'
import { parseRedisUrl } from '../../store/redis/redis-url.ts'
import { facts, print } from '../output.ts'
import { packageVersion } from '../package-version.ts'
import { sqliteFile, storeUrl, URL_HELP } from '../store-url.ts'

interface Options {
  url?: string
  json?: boolean
}

export function addConfig(program: Command): void {
  program
    .command('config')
    .description('print the resolved settings, passwords masked; opens nothing')
    .option('--url <url>', URL_HELP)
    .option('--json', 'one JSON document on stdout')
    .action(config)
}

async function config(options: Options): Promise<void> {
  const url = storeUrl(options.url)
  // Constructing a store checks its URL and connects to nothing.
  const store = openStore(url, { autoMigrate: false, readonly: true })
  await store.close()
  const settings = {
    version: packageVersion(),
    node: process.versions.node,
    url: maskUrl(url),
    from: options.url === undefined ? 'MCP_PERSIST_URL' : '--url',
    backend: store.backend,
    ...describe(store.backend, url),
  }
  const entries = Object.entries(settings).map(([name, value]) => [name, String(value)] as const)
  await print(settings, facts(entries), options)
}

function describe(backend: string, url: string): Record<string, string | number | boolean> {
  if (backend === 'sqlite') return { path: sqliteFile(url)! }
  if (backend === 'redis') {
    const { kind, addresses, master, keyPrefix, connection } = parseRedisUrl(withoutOurs(url))
    return {
      kind,
      addresses: addresses.map(({ host, port }) => `${host}:${port}`).join(','),
      ...(master !== undefined && { master }),
      database: Number(connection.db ?? 0),
      tls: connection.tls !== undefined,
      ...(typeof connection.username === 'string' && { user: connection.username }),
      password: connection.password ? '***' : 'none',
      keyPrefix: keyPrefix ?? 'mcp-persist:',
    }
  }
  const { hostname, port, pathname, username, password } = new URL(url)
  return {
    host: hostname || 'localhost',
    port: Number(port || 5432),
    database: decodeURIComponent(pathname.slice(1)) || 'the default of the user',
    ...(username !== '' && { user: decodeURIComponent(username) }),
    password: password ? '***' : 'none',
    schema: resolveTarget({ url: withoutOurs(url) }).schema,
  }
}

/** What openStore() takes for itself. */
function withoutOurs(url: string): string {
  const [base = '', query = ''] = url.split('?', 2)
  const rest = query.split('&').filter((parameter) => !/^(ttl|timeout)=/.test(parameter) && parameter !== '')
  return rest.length > 0 ? `${base}?${rest.join('&')}` : base
}
