import { randomUUID } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { errorText } from '../../src/errors.ts'
import { quickStart } from '../docs/quickstart.ts'
import { freePort } from '../support/net/listen.ts'
import { nodeRelease } from '../support/node-release.ts'
import { tarball } from '../support/packed.ts'
import { HostProcess } from '../support/process.ts'
import { startPostgres } from '../support/services/postgres.ts'
import { startRedis } from '../support/services/redis.ts'
import { smoke } from '../support/smoke.ts'
import { installed, installRow } from './install.ts'
import { MATRIX, type Row } from './matrix.ts'

/*
 * `npm run test:versions`: the packed package with each version that it claims to work with, in a process that is killed in
 * the middle of a call. Prints a line for each, and ends with 1 when one of them failed.
 */
const redis = await startRedis()
const postgres = await startPostgres()
const packed = await tarball()

async function run(row: Row): Promise<string> {
  const release = await nodeRelease(row.node)
  const folder = await installRow(row, release, packed)
  const data = await mkdtemp(join(tmpdir(), 'mcp-persist-versions-'))
  const schema = `v_${randomUUID().replaceAll('-', '')}`
  const urls = {
    sqlite: `sqlite:${join(data, 'mcp.db')}`,
    redis: row.client ? redis.url : `${redis.url}?keyPrefix=${schema}:`,
    postgres: row.client ? postgres.url : `${postgres.url}?schema=${schema}`,
  }
  const port = await freePort()
  const { SDK, CLIENT, STDIO } = { SDK: row.sdk, CLIENT: row.client, STDIO: row.stdio && '1' }
  const host = await HostProcess.start({
    node: release.node,
    args: [join(folder, 'server.mjs')],
    env: { SDK, CLIENT, STDIO, SCHEMA: schema, MCP_PERSIST_URL: urls[row.store], PORT: `${port}` },
    ready: /^ready$/m,
  })
  try {
    await smoke(host, `http://127.0.0.1:${port}/mcp`)
    // The quick start is of these: it runs on each Node.
    if (row.store === 'sqlite' && row.sdk === 'v1') await quickStart(folder, release.node)
  } catch (error) {
    throw new Error(`${errorText(error)}\n${host.output}`, { cause: error })
  } finally {
    await host.kill()
    await rm(data, { recursive: true, force: true })
  }
  return Object.keys(row.packages)
    .map((name) => `${name} ${installed(folder, name)}`)
    .join(', ')
}

let failed = 0
for (const row of MATRIX) {
  const how = `Node ${row.node}  ${row.store.padEnd(8)}  ${(row.stdio ? 'stdio' : row.client ? 'client' : 'URL').padEnd(6)}`
  const started = performance.now()
  try {
    const packages = await run(row)
    console.log(`ok      ${how}  ${packages}  (${Math.round((performance.now() - started) / 1000)} s)`)
  } catch (error) {
    failed += 1
    console.log(`FAILED  ${how}  ${JSON.stringify(row.packages)}\n${errorText(error)}`)
  }
}
await Promise.all([redis.stop(), postgres.stop()])
console.log(failed === 0 ? `All ${MATRIX.length} work.` : `${failed} of ${MATRIX.length} do not work.`)
process.exitCode = failed === 0 ? 0 : 1
