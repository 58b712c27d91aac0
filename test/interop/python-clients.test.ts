import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { beforeAll, describe, expect, test } from 'vitest'
import { type Backend, backends, storeSpace } from '../support/backends.ts'
import { type HostedCluster, hostCluster } from '../support/cluster.ts'
import { CuttingProxy } from '../support/net/cutting-proxy.ts'
import type { HostProcess } from '../support/process.ts'
import { within } from '../support/wait.ts'
import { pythonWith } from './install.ts'

/*
 * The clients of Python through all that a session does, at three nodes behind a strict round robin: with every connection
 * cut in mid-call, and the owner killed in mid-call.
 */

const CLIENTS = [
  ['mcp-1', 'mcp==1.30.*'],
  ['mcp-2-legacy', 'mcp==2.3.*'],
  ['mcp-2-auto', 'mcp==2.3.*'],
  ['fastmcp', 'fastmcp==4.2.*'],
] as const
const SHAPES = ['express5', 'hono', 'factory'] as const
const PATIENCE = 240_000

interface Line {
  readonly step?: string
  readonly wrong?: string
  readonly now?: 'cut' | 'kill'
}

/** What went wrong; undefined for the end of its output. */
async function drive(python: string, kind: string, shape: string, backend: Backend): Promise<string[]> {
  const space = await storeSpace(backend)
  const cluster = await hostCluster({ shape, store: space.url })
  const network = await CuttingProxy.to(cluster.proxy.origin)
  const program = fileURLToPath(new URL('client.py', import.meta.url))
  const child = spawn(python, [program, kind, `${network.origin}/mcp`], { stdio: ['ignore', 'pipe', 'pipe'] })
  let said = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said = (said + text).slice(-2000)
  })
  const wrong: string[] = []
  let last = ''
  try {
    const lines = createInterface({ input: child.stdout })
    const read = (async () => {
      for await (const text of lines) {
        const line = JSON.parse(text) as Line
        if (line.now === 'cut') network.cutNow()
        else if (line.now === 'kill') await ownerOf(cluster).kill()
        else last = line.step!
        if (line.wrong !== undefined) wrong.push(`${line.step}: ${line.wrong}`)
      }
    })()
    await within(`all steps of ${kind} (the last was "${last}")`, read, PATIENCE)
    if (child.exitCode === null) await once(child, 'exit')
    if (last !== 'close' || child.exitCode !== 0) wrong.push(`it ended after "${last}": ${said}`)
    return wrong
  } finally {
    child.kill('SIGKILL')
    await network.close()
    await cluster.close()
    await space.remove()
  }
}

/** Where the app has opened the session: a client may have asked something else at another node before. */
function ownerOf({ journal, nodes }: HostedCluster): HostProcess {
  const opened = journal.entries().find(({ what }) => what === 'initialized')
  const owner = nodes.find(({ host }) => host.pid === opened?.pid)
  if (!owner) throw new Error('No node has opened a session.')
  return owner.host
}

describe.each(CLIENTS)('%s', (kind, requirement) => {
  let python: string
  beforeAll(async () => {
    python = await pythonWith(requirement)
  }, 600_000)

  describe.each(SHAPES)('three nodes of the shape %s', (shape) => {
    test.each(backends)('on %s', { timeout: PATIENCE + 30_000 }, async (backend) => {
      expect(await drive(python, kind, shape, backend)).toEqual([])
    })
  })
})
