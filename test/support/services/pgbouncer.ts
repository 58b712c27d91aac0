import { chownSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { aptInstall, findBinary, serviceMissing } from './binaries.ts'
import { freePort } from './free-port.ts'
import { accepting, unprivileged } from './postgres.ts'
import { spawnTied } from './tied-process.ts'

export interface PgBouncerService {
  /** The database of `target`, through the pooler. */
  readonly url: string
  stop(): Promise<void>
}

/** A PgBouncer of our own in transaction mode, before the server at `target`: few connections for many. */
export async function startPgBouncer(target: string): Promise<PgBouncerService> {
  const binary = pgbouncerBinary()
  const { hostname, port: targetPort, username, password, pathname } = new URL(target)
  const port = await freePort()
  const account = unprivileged()
  const dir = mkdtempSync(join(tmpdir(), 'mcp-persist-pgbouncer-'))
  const users = join(dir, 'users.txt')
  const config = join(dir, 'pgbouncer.ini')
  writeFileSync(users, `"${username}" "${decodeURIComponent(password)}"\n`)
  writeFileSync(
    config,
    `[databases]
* = host=${hostname} port=${targetPort || 5432}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = trust
auth_file = ${users}
pool_mode = transaction
default_pool_size = 5
max_client_conn = 500
logfile = ${join(dir, 'pgbouncer.log')}
`,
  )
  if (account.uid !== undefined) {
    for (const path of [dir, users, config]) chownSync(path, account.uid, account.gid!)
  }
  const tied = spawnTied(binary, [config], dir, { ...account, cwd: dir })
  const url = `postgres://${username}:${password}@127.0.0.1:${port}${pathname}`
  const ended = tied.exited.then(() => false)
  if (!(await Promise.race([accepting(url), ended])))
    throw new Error(`PgBouncer on port ${port} ended at once.`)
  return {
    url,
    async stop() {
      await tied.kill()
      rmSync(dir, { recursive: true, force: true })
    },
  }
}

let installed: string | undefined

function pgbouncerBinary(): string {
  const find = () => findBinary('pgbouncer', ['/usr/sbin', '/usr/local/sbin'])
  installed ??= find() ?? (aptInstall(['pgbouncer']) ? find() : undefined)
  if (installed === undefined) throw serviceMissing('pgbouncer', 'MCP_PERSIST_TEST_POSTGRES_URL')
  return installed
}
