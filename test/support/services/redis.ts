import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { aptInstall, findBinary, serviceMissing } from './binaries.ts'
import type { Certificate } from './certificate.ts'
import { freePort } from './free-port.ts'
import { spawnTied, type TiedProcess } from './tied-process.ts'

/** A server of our own on a loopback port, with its data in a temporary folder. */
export interface Service {
  readonly url: string
  /** Ends it and removes its data. */
  stop(): Promise<void>
  /** SIGKILL. The data stays. */
  kill(): Promise<void>
  /** Starts it again on the same port and data, after `kill()` or by killing it first. */
  restart(): Promise<void>
}

export interface RedisService extends Service {
  readonly port: number
  /** The data folder. */
  readonly dir: string
  /** Of the server that runs now. */
  readonly pid: number
}

export interface RedisServiceOptions {
  /** Append-only file, and how often it is synced. Default `none`. */
  readonly persistence?: 'none' | 'everysec' | 'always'
  /** More configuration, as on the command line: `['--maxmemory', '100mb']`. */
  readonly config?: readonly string[]
}

export interface RedisClusterService extends Service {
  readonly nodes: readonly RedisService[]
}

export async function startRedis(options: RedisServiceOptions = {}): Promise<RedisService> {
  return launch(await freePort(), options)
}

/** Three masters without replicas, ready within about three seconds. */
export async function startRedisCluster(options: RedisServiceOptions = {}): Promise<RedisClusterService> {
  const cluster = ['--cluster-enabled', 'yes', '--cluster-node-timeout', '2000']
  const config = [...cluster, ...(options.config ?? [])]
  // The cluster's own bus listens 10,000 above.
  const ports = [await freePort(10_000), await freePort(10_000), await freePort(10_000)]
  const nodes = await Promise.all(ports.map((port) => launch(port, { ...options, config })))
  const all = (action: (node: RedisService) => Promise<void>) => Promise.all(nodes.map(action))
  try {
    await form(ports)
  } catch (error) {
    await all((node) => node.stop())
    throw error
  }
  return {
    url: `redis+cluster://${ports.map((port) => `127.0.0.1:${port}`).join(',')}`,
    nodes,
    stop: async () => void (await all((node) => node.stop())),
    kill: async () => void (await all((node) => node.kill())),
    restart: async () => {
      await all((node) => node.restart())
      await Promise.all(ports.map((port) => withClient(port, clusterReady)))
    },
  }
}

export interface RedisSentinelService extends Service {
  readonly master: RedisService
  readonly replica: RedisService
}

export interface RedisSentinelOptions {
  /** Master and replica, and the sentinel, speak TLS as well, on ports of their own, which is where the URL leads. */
  readonly tls?: { readonly sentinel: Certificate; readonly master: Certificate }
}

/** A master, a replica and one sentinel, which makes the replica the master within about a second. */
export async function startRedisSentinel({ tls }: RedisSentinelOptions = {}): Promise<RedisSentinelService> {
  const secured = async () => {
    if (!tls) return []
    const announced = await freePort()
    const announce = ['--replica-announce-port', `${announced}`]
    return [
      '--tls-port',
      `${announced}`,
      ...Object.entries(tlsConfig(tls.master)).flatMap(([name, value]) => [`--${name}`, value]),
      ...announce,
    ]
  }
  const masterConfig = await secured()
  const master = await startRedis({ config: masterConfig })
  const config = ['--replicaof', '127.0.0.1', `${master.port}`, ...(await secured())]
  const [replica, port, tlsPort] = [await startRedis({ config }), await freePort(), await freePort()]
  const monitored = tls ? masterConfig[1]! : `${master.port}`
  const dir = mkdtempSync(join(tmpdir(), 'mcp-persist-sentinel-'))
  const file = join(dir, 'sentinel.conf')
  const lines = [
    `port ${port}`,
    `dir ${dir}`,
    `logfile ${join(dir, 'sentinel.log')}`,
    ...(tls
      ? [
          `tls-port ${tlsPort}`,
          'tls-replication yes',
          ...Object.entries(tlsConfig(tls.sentinel)).map((pair) => pair.join(' ')),
        ]
      : []),
    `sentinel monitor mymaster 127.0.0.1 ${monitored} 1`,
    'sentinel down-after-milliseconds mymaster 500',
    'sentinel failover-timeout mymaster 3000',
  ]
  const start = () => {
    writeFileSync(file, `${lines.join('\n')}\n`)
    return spawnTied(redisBinary(), [file, '--sentinel'], dir)
  }
  let sentinel = start()
  if (!tls)
    await withClient(port, async (client) => {
      const known = async () => (await client.call('sentinel', 'replicas', 'mymaster')) as string[][]
      for (const deadline = performance.now() + 20_000; (await known()).length === 0; ) {
        if (performance.now() > deadline)
          throw new Error('The sentinel did not find the replica within 20 s.')
        await new Promise((resolve) => setTimeout(resolve, 50))
      }
    })
  return {
    url: tls
      ? `rediss+sentinel://127.0.0.1:${tlsPort}/mymaster`
      : `redis+sentinel://127.0.0.1:${port}/mymaster`,
    master,
    replica,
    kill: () => sentinel.kill(),
    async restart() {
      await sentinel.kill()
      sentinel = start()
    },
    async stop() {
      await Promise.all([sentinel.kill(), master.stop(), replica.stop()])
      rmSync(dir, { recursive: true, force: true })
    },
  }
}

/** Clients need no certificate; what servers say to each other is not verified here. */
function tlsConfig({ cert, key }: Certificate): Record<string, string> {
  return { 'tls-cert-file': cert, 'tls-key-file': key, 'tls-ca-cert-file': cert, 'tls-auth-clients': 'no' }
}

async function launch(
  port: number,
  { persistence = 'none', config = [] }: RedisServiceOptions,
): Promise<RedisService> {
  const binary = redisBinary()
  const dir = mkdtempSync(join(tmpdir(), 'mcp-persist-redis-'))
  const log = join(dir, 'redis.log')
  const aof = persistence === 'none' ? ['no'] : ['yes', '--appendfsync', persistence]
  const args = ['--port', `${port}`, '--bind', '127.0.0.1', '--dir', dir, '--logfile', log, '--save', '']
  const start = async (): Promise<TiedProcess> => {
    const process = spawnTied(binary, [...args, '--appendonly', ...aof, ...config], dir)
    const ended = process.exited.then(() => {
      throw new Error(`redis-server on port ${port} ended at once: ${lastLines(log)}`)
    })
    // A server that wants a password is up as well.
    const ready = withClient(port, (client) =>
      client.ping().catch((error) => {
        if (!`${error.message}`.startsWith('NOAUTH')) throw error
      }),
    )
    ready.catch(() => {})
    await Promise.race([ready, ended])
    ended.catch(() => {})
    return process
  }
  let process = await start()
  return {
    url: `redis://127.0.0.1:${port}`,
    port,
    dir,
    get pid() {
      return process.child.pid!
    },
    kill: () => process.kill(),
    async restart() {
      await process.kill()
      process = await start()
    },
    async stop() {
      await process.kill()
      rmSync(dir, { recursive: true, force: true })
    },
  }
}

let installed: string | undefined

function redisBinary(): string {
  const find = () => findBinary('redis-server') ?? findBinary('valkey-server')
  installed ??= find() ?? (aptInstall(['redis-server']) ? find() : undefined)
  if (installed === undefined) throw serviceMissing('redis-server', 'MCP_PERSIST_TEST_REDIS_URL')
  return installed
}

/** Joins the nodes by hand: `redis-cli --cluster create` takes several seconds more for the same. */
async function form(ports: readonly number[]): Promise<void> {
  const share = Math.ceil(16_384 / ports.length)
  await Promise.all(
    ports.map((port, i) =>
      withClient(port, async (client) => {
        const count = Math.min(share, 16_384 - i * share)
        const slots = Array.from({ length: count }, (_, slot) => i * share + slot)
        await client.cluster('SET-CONFIG-EPOCH', i + 1)
        await client.cluster('ADDSLOTS', ...slots)
        if (i > 0) await client.cluster('MEET', '127.0.0.1', ports[0]!)
      }),
    ),
  )
  await Promise.all(ports.map((port) => withClient(port, clusterReady)))
}

async function clusterReady(client: Redis): Promise<void> {
  const deadline = performance.now() + 30_000
  for (;;) {
    const [info, slots] = await Promise.all([client.cluster('INFO'), client.cluster('SLOTS')])
    if (`${info}`.includes('cluster_state:ok') && (slots as unknown[]).length >= 3) return
    if (performance.now() > deadline) throw new Error(`The cluster did not form within 30 s: ${info}`)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

/** Connects as soon as the server listens, within 20 s. */
async function withClient<T>(port: number, use: (client: Redis) => Promise<T>): Promise<T> {
  const client = new Redis({
    port,
    host: '127.0.0.1',
    retryStrategy: (times) => (times < 400 ? 50 : null),
    maxRetriesPerRequest: null,
  })
  client.on('error', () => {})
  try {
    return await use(client)
  } finally {
    client.disconnect()
  }
}

function lastLines(file: string): string {
  try {
    return readFileSync(file, 'utf8').trim().split('\n').slice(-3).join(' | ')
  } catch {
    return 'it left no log'
  }
}
