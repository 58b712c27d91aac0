import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, it, onTestFinished } from 'vitest'
import { appShape } from '../support/apps/app-shapes.ts'
import { storeSpace } from '../support/backends.ts'
import { textOf } from '../support/clients/raw-client.ts'
import { serveCluster } from '../support/cluster.ts'
import { node22 } from '../support/node-release.ts'

const run = promisify(execFile)
const inspector = createRequire(import.meta.url).resolve('@modelcontextprotocol/inspector/package.json')
const launcher = join(inspector, '../clients/launcher/build/index.js')

it.each(['factory', 'factory-v2', 'express5'])(
  'the Inspector lists and calls tools of %s on three nodes',
  {
    timeout: 150_000,
  },
  async (name) => {
    const space = await storeSpace('sqlite')
    const cluster = await serveCluster(appShape(name), { store: space.url })
    // It keeps a catalogue of servers in its user's home.
    const home = await mkdtemp(join(tmpdir(), 'mcp-persist-inspector-'))
    onTestFinished(async () => {
      await cluster.close()
      await space.remove()
      await rm(home, { recursive: true, force: true })
    })
    const node = await node22()
    /** Rejects with what it printed when its exit code is not 0. */
    async function inspect(...args: string[]): Promise<unknown> {
      const all = [launcher, '--cli', cluster.url, '--transport', 'http', ...args]
      const { stdout } = await run(node, all, { env: { ...process.env, HOME: home }, timeout: 30_000 })
      return JSON.parse(stdout)
    }

    const { tools } = (await inspect('--method', 'tools/list')) as { tools: { name: string }[] }
    expect(tools.map((tool) => tool.name)).toContain('add')
    const call = ['--method', 'tools/call', '--tool-name', 'add', '--tool-arg', 'a=2', 'b=3']
    expect(textOf(await inspect(...call))).toBe('5')
    for (const { origin } of cluster.nodes) expect(cluster.proxy.counts.get(origin)).toBeGreaterThan(1)
  },
)
