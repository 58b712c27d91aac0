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

it('a quick call is one event in the log, and its priming id leads to the answer', async () => {
  const store = new MemoryEventStore()
  const served = await serveWrapped(appShape('express5'), { store })
  onTestFinished(() => served.close())
  const client = await RawClient.open(`${served.origin}/mcp`)
  onTestFinished(() => client.close())
  const call = client.toolCall('echo', { text: 'once' })
  const stream = await client.stream(call)
  await stream.over()
  const [priming, answer] = stream.events
  expect(priming?.data).toBe('')
  expect(answer?.message?.id).toBe(call.id)

  const { events } = await store.log.read({ sessionId: client.session!, after: 0, limit: 10 })
  expect(events.filter(({ payload }) => payload.includes('once')).map(({ kind }) => kind)).toEqual(['final'])

  const resumed = await client.listen(priming!.id)
  expect((await resumed.next('the answer', ({ id }) => id === call.id)).result).toEqual(
    answer!.message!.result,
  )
  expect(resumed.events.filter(({ data }) => data !== '').map(({ id }) => id)).toEqual([answer!.id])
})

it('a call at another node asks the store where its session is once, and not each time', async () => {
  const begun: string[] = []
  const store = observed(new MemoryEventStore(), {
    begin(operation) {
      begun.push(operation)
      return () => {}
    },
  })
  const nodes = await Promise.all([1, 2].map(() => serveWrapped(appShape('factory'), { store })))
  onTestFinished(async () => {
    await Promise.all(nodes.map((node) => node.close()))
  })
  const client = await RawClient.open(`${nodes[0]!.origin}/mcp`)
  const edge = client.clone(`${nodes[1]!.origin}/mcp`)
  onTestFinished(() => {
    client.close()
    edge.close()
  })
  await edge.call(edge.toolCall('echo', { text: 'first' }))
  begun.length = 0
  for (const text of ['second', 'third']) await edge.call(edge.toolCall('echo', { text }))
  expect(begun.filter((operation) => operation === 'sessions.get')).toEqual([])
  expect(begun.filter((operation) => operation === 'log.append')).toHaveLength(4)
  // The question, and the answer with all that was said.
  expect(begun.filter((operation) => operation === 'bus.send').length).toBeLessThanOrEqual(6)
})
