import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import { expect, it, onTestFinished, vi } from 'vitest'
import { withPersistence } from '../../src/index.ts'
import { appShape } from '../support/apps/app-shapes.ts'
import { OfficialClient } from '../support/clients/official-client.ts'
import { memoryJournal } from '../support/journal.ts'
import { listening } from '../support/net/listen.ts'
import { until } from '../support/wait.ts'

/** On a machine that does much else. */
const PATIENCE = 40_000
vi.setConfig({ testTimeout: 150_000 })

async function connections(server: Server): Promise<number> {
  return new Promise((resolve, reject) =>
    server.getConnections((error, n) => (error ? reject(error) : resolve(n))),
  )
}

it.each(['as a stream', 'as JSON'])(
  '50 calls that are answered %s and cancelled leave no connection',
  async (kind) => {
    const journal = memoryJournal()
    const built = await appShape('express5').build({ journal, json: kind === 'as JSON' })
    const listener = await built.unwrapped()
    const upstream = createServer(listener).listen(0, '127.0.0.1')
    const { origin, close } = await listening(upstream)
    const lines: unknown[] = []
    const note = (facts: object, text: string) => void lines.push({ ...facts, text })
    const logger = { debug() {}, info() {}, warn: note, error: note }
    const handler = withPersistence({ url: `${origin}/mcp` }, 'memory:', { logger })
    const served = await listening(handler.listen(0, '127.0.0.1'))
    onTestFinished(async () => {
      await handler.close({ deadline: 0 })
      await close()
    })
    const client = await OfficialClient.connect('v1', `${served.origin}/mcp`)
    onTestFinished(() => client.close())
    await client.listening()
    // The standalone stream of the session, and what lies in the pool for a moment.
    const atRest = async () => (await connections(upstream)) === 1
    await until('rest', atRest, PATIENCE)

    const cancelled = Array.from({ length: 50 }, (_, i) => {
      const controller = new AbortController()
      const call = client.tool(
        'slow',
        { tag: `call-${i}`, steps: 1, ms: 60_000 },
        { signal: controller.signal },
      )
      return { controller, call: call.catch((error: Error) => error.message) }
    })
    const started = () => journal.entries().filter(({ what }) => what === 'start').length
    await until('all of them', () => started() === 50, PATIENCE)
    expect(await connections(upstream)).toBeGreaterThanOrEqual(50)
    for (const { controller } of cancelled) controller.abort('not wanted')
    for (const { call } of cancelled) expect(await call).toContain('not wanted')
    await until('rest', atRest, PATIENCE)
    expect(await client.tool('echo', { text: 'still there' })).toBe('still there')
    expect(lines).toEqual([])

    const over = once(upstream, 'close')
    await handler.close({ deadline: 1000 })
    await until('no connection', async () => (await connections(upstream)) === 0)
    upstream.close()
    await over
  },
)
