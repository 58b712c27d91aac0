import { execFileSync } from 'node:child_process'
import {
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { aptInstall, findBinary, serviceMissing } from './binaries.ts'
import { freePort } from './free-port.ts'
import type { Service } from './redis.ts'
import { spawnTied, type TiedProcess } from './tied-process.ts'

export interface PostgresService extends Service {
  readonly port: number
}

export interface PostgresServiceOptions {
  /** A server of one's own even where one was given: for tests that kill it. Default false. */
  readonly own?: boolean
  /** Default false: quicker. A test that kills the server and counts what is left needs true. */
  readonly fsync?: boolean
  /** More settings, as in postgresql.conf. */
  readonly settings?: Readonly<Record<string, string | number>>
}

/**
 * The server in `MCP_PERSIST_TEST_POSTGRES_URL`, which is neither killed nor stopped, or one of our own on a free
 * loopback port, with its data in a temporary folder, its superuser called `postgres` and no passwords asked.
 */
export async function startPostgres(options: PostgresServiceOptions = {}): Promise<PostgresService> {
  const given = process.env.MCP_PERSIST_TEST_POSTGRES_URL
  if (given && !options.own) {
    const refuse = async () => {
      throw new Error('This PostgreSQL was given to the tests, not started by them: they may not kill it.')
    }
    const port = Number(new URL(given).port || 5432)
    return { url: given, port, stop: async () => {}, kill: refuse, restart: refuse }
  }
  return launch(await freePort(), options)
}

async function launch(port: number, { fsync = false, settings = {} }: PostgresServiceOptions) {
  const bin = postgresFolder()
  const account = unprivileged()
  const dir = mkdtempSync(join(tmpdir(), 'mcp-persist-postgres-'))
  if (account.uid !== undefined) chownSync(dir, account.uid, account.gid!)
  const data = join(dir, 'data')
  const how = ['--no-sync', '-A', 'trust', '-U', 'postgres', '-E', 'UTF8', '--locale=C']
  execFileSync(join(bin, 'initdb'), ['-D', data, ...how], { ...account, cwd: dir, stdio: 'pipe' })
  const all = {
    port,
    listen_addresses: '127.0.0.1',
    unix_socket_directories: '',
    fsync: fsync ? 'on' : 'off',
    max_connections: 200,
    logging_collector: 'on',
    log_directory: dir,
    log_filename: 'postgres.log',
    ...settings,
  }
  const args = Object.entries(all).flatMap(([name, value]) => ['-c', `${name}=${value}`])
  const url = `postgres://postgres@127.0.0.1:${port}/postgres`

  // After SIGKILL the last backends need a moment to notice, and no new server starts on their shared memory.
  const start = async (attempts = 50): Promise<TiedProcess> => {
    const tied = spawnTied(join(bin, 'postgres'), ['-D', data, ...args], dir, { ...account, cwd: dir })
    const ended = tied.exited.then(() => false)
    if (await Promise.race([accepting(url), ended])) return tied
    if (attempts > 1 && existsSync(join(data, 'PG_VERSION'))) {
      await new Promise((resolve) => setTimeout(resolve, 100))
      return start(attempts - 1)
    }
    throw new Error(`PostgreSQL on port ${port} ended at once: ${lastLines(join(dir, 'postgres.log'))}`)
  }
  let tied = await start()
  return {
    url,
    port,
    kill: () => tied.kill(),
    async restart() {
      await tied.kill()
      tied = await start()
    },
    async stop() {
      // Immediate shutdown: nobody will read the data again, but the shared memory is given back.
      tied.child.ref()
      tied.child.kill('SIGQUIT')
      await tied.exited
      rmSync(dir, { recursive: true, force: true })
    },
  }
}

/** True as soon as it answers a query, within 60 s. */
export async function accepting(url: string): Promise<boolean> {
  for (const deadline = performance.now() + 60_000; ; ) {
    const client = new pg.Client({ connectionString: url })
    client.on('error', () => {})
    try {
      await client.connect()
      await client.query('SELECT 1')
      return true
    } catch (error) {
      if (performance.now() > deadline) throw error
      await new Promise((resolve) => setTimeout(resolve, 20))
    } finally {
      await client.end().catch(() => {})
    }
  }
}

let folder: string | undefined

function postgresFolder(): string {
  const versions = '/usr/lib/postgresql'
  const find = () => {
    const installed = existsSync(versions) ? readdirSync(versions).sort((a, b) => Number(b) - Number(a)) : []
    return findBinary('initdb', [...installed.map((version) => join(versions, version, 'bin'))])
  }
  folder ??= (find() ?? (install() ? find() : undefined))?.replace(/\/initdb$/, '')
  if (folder === undefined) throw serviceMissing('PostgreSQL', 'MCP_PERSIST_TEST_POSTGRES_URL')
  return folder
}

/** Debian's package would also make a cluster of the system's: not for us. */
function install(): boolean {
  const conf = '/etc/postgresql-common/createcluster.conf'
  if (process.getuid?.() === 0 && !existsSync(conf)) {
    mkdirSync('/etc/postgresql-common', { recursive: true })
    writeFileSync(conf, 'create_main_cluster = false\n')
  }
  return aptInstall(['postgresql'])
}

/** PostgreSQL refuses to run as root: somebody else then, with as few rights as there are. */
export function unprivileged(): { uid?: number; gid?: number } {
  if (process.getuid?.() !== 0) return {}
  const accounts = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .map((line) => line.split(':'))
  const account = ['postgres', 'nobody'].flatMap((name) => accounts.filter((fields) => fields[0] === name))[0]
  if (!account) throw new Error('PostgreSQL cannot run as root, and there is no user postgres or nobody.')
  return { uid: Number(account[2]), gid: Number(account[3]) }
}

function lastLines(file: string): string {
  try {
    return readFileSync(file, 'utf8').trim().split('\n').slice(-3).join(' | ')
  } catch {
    return 'it left no log'
  }
}
