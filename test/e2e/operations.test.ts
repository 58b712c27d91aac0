import { expect, it, onTestFinished } from 'vitest'
import { MemoryEventStore } from '../../src/index.ts'
import { appShape } from '../support/apps/app-shapes.ts'
import { RawClient } from '../support/clients/raw-client.ts'
import { observed } from '../support/observed-store.ts'
import { serveWrapped } from '../support/serve.ts'

/* Hosts open a session for every tool call: what its life costs is what a call costs. */

it.each(['express5', 'hono', 'factory'] as const)(
  '%s: a life of one call waits for the store three times',
  async (shape) => {
    const begun: string[] = []
    const store = observed(new MemoryEventStore(), {
      begin(operation) {
        begun.push(operation)
        return () => {}
      },
    })
    const served = await serveWrapped(appShape(shape), { store })
    onTestFinished(() => served.close())
    const url = `${served.origin}/mcp`
    const operations = async (work: () => Promise<unknown>) => {
      begun.length = 0
      await work()
      return [...begun]
    }
    // The first session brings its node among the others.
    await (await RawClient.open(url)).delete()

    const client = new RawClient(url)
    const steps: Record<string, string[]> = {}
    steps['initialize'] = await operations(async () => {
      const response = await client.post(client.initialize())
      client.session = response.headers.get('mcp-session-id') ?? undefined
      await response.text()
    })
    steps['initialized'] = await operations(async () => {
      const response = await client.post({ jsonrpc: '2.0', method: 'notifications/initialized' })
      await response.text()
    })
    steps['call'] = await operations(() => client.call(client.toolCall('echo', { text: 'once' })))
    steps['DELETE'] = await operations(async () => (await client.delete()).text())
    expect(steps).toEqual({
      initialize: ['sessions.create'],
      initialized: [],
      call: ['log.append'],
      DELETE: ['sessions.terminate'],
    })
  },
)
