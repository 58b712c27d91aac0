import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { type AppShape, appShape, appShapes } from '../support/apps/app-shapes.ts'
import { type Backend, backends, storeSpace } from '../support/backends.ts'
import { OfficialClient } from '../support/clients/official-client.ts'
import { type Message, RawClient, textOf } from '../support/clients/raw-client.ts'
import { balanced, ledger } from '../support/ledger.ts'
import { type CutRule, CuttingProxy } from '../support/net/cutting-proxy.ts'
import { serveWrapped, type Wrapped } from '../support/serve.ts'
import { until } from '../support/wait.ts'

const options = { retryInterval: 10, ttl: 60 }
const stores = ['memory:', ...backends]

/** On a URL as it is, or in a place of its own on a backend. */
async function serve(shape: AppShape, store: string): Promise<Wrapped> {
  const space = store.endsWith(':') ? undefined : await storeSpace(store as Backend)
  const served = await serveWrapped(shape, { store: space?.url ?? store, options })
  const close = async () => {
    await served.close()
    await space?.remove()
  }
  return { ...served, close }
}

/** A cut in every place where it can hurt, for the official client behind a proxy that breaks connections. */
function survivesCuts(shape: AppShape, store: string): void {
  describe(`${shape.name} on ${store}`, () => {
    let served: Wrapped
    beforeAll(async () => {
      served = await serve(shape, store)
    })
    afterAll(() => served.close())

    async function connect(rule: CutRule): Promise<{ client: OfficialClient; proxy: CuttingProxy }> {
      const proxy = await CuttingProxy.to(served.origin)
      const client = await OfficialClient.connect(shape.sdk, `${proxy.origin}/mcp`)
      onTestFinished(async () => {
        await client.close()
        await proxy.close()
      })
      proxy.rule = rule
      return { client, proxy }
    }

    it.each([1, 2, 3, 4, 5])('a call whose stream is cut after event %i', async (afterEvents) => {
      const { client, proxy } = await connect({ afterEvents, method: 'POST', times: 1 })
      const tag = `cut-${afterEvents}`
      expect(await client.tool('slow', { tag, steps: 5, ms: 3 })).toBe(`${tag} done after 5`)
      expect(ledger(served.journal, client.logs, { tags: [tag] })).toEqual(balanced)
      expect(proxy.cuts).toBe(1)
    })

    it('a call behind a proxy that never lets a stream live long', async () => {
      const { client, proxy } = await connect({ afterMs: 40 })
      expect(await client.tool('slow', { tag: 'short', steps: 20, ms: 12 })).toBe('short done after 20')
      expect(ledger(served.journal, client.logs, { tags: ['short'] })).toEqual(balanced)
      expect(proxy.cuts).toBeGreaterThan(2)
    })

    it('the standalone stream, cut again and again', async () => {
      const { client, proxy } = await connect({})
      await client.listening()
      proxy.rule = { afterEvents: 2, method: 'GET' }
      proxy.cutNow()
      await client.tool('later', { tag: 'standalone', count: 12, ms: 5 })
      await client.log('standalone:12')
      expect(ledger(served.journal, client.logs, { tags: ['standalone'] })).toEqual(balanced)
      expect(proxy.cuts).toBeGreaterThan(2)
    })

    it('samplings whose request and answer cross a broken connection', async () => {
      const { client } = await connect({ afterEvents: 2 })
      const prompts = ['a', 'b', 'c']
      const answers = await Promise.all(prompts.map((prompt) => client.tool('sample', { prompt })))
      expect(answers).toEqual(['a -> answer(a)', 'b -> answer(b)', 'c -> answer(c)'])
    })
  })
}

for (const shape of appShapes) survivesCuts(shape, shape.sdk === 'v1' ? 'memory:' : 'sqlite::memory:')
for (const backend of backends) survivesCuts(appShape('express5'), backend)

describe.each(stores)('event ids on %s', (store) => {
  let served: Wrapped
  beforeAll(async () => {
    served = await serve(appShape('express5'), store)
  })
  afterAll(() => served.close())

  async function open(version?: string): Promise<RawClient> {
    const client = await RawClient.open(served.url, version === undefined ? {} : { version })
    onTestFinished(() => client.close())
    return client
  }

  it('begin with a priming event, which is a valid place to resume from and never a message', async () => {
    const client = await open()
    const stream = await client.stream(client.toolCall('slow', { tag: 'primed', steps: 2 }))
    await stream.over()
    expect(stream.events[0]).toMatchObject({ data: '', id: expect.stringMatching(/./) })
    expect(stream.retry).toBe(10)
    const resumed = await client.listen(stream.events[0]!.id)
    await resumed.over()
    expect(resumed.messages).toEqual(stream.messages)
    expect(resumed.messages.at(-1)?.result).toBeDefined()
  })

  it('begin without one for clients of older revisions', async () => {
    const client = await open('2025-06-18')
    const stream = await client.stream(client.toolCall('echo', { text: 'old' }))
    await stream.over()
    expect(stream.events.map(({ data }) => data)).not.toContain('')
    expect(textOf(stream.messages[0]?.result)).toBe('old')
  })

  it('are a cursor: after event k of n come exactly k+1 to n, with the ids they had', async () => {
    const client = await open()
    const stream = await client.stream(client.toolCall('burst', { tag: 'cursor', count: 40 }))
    await stream.over()
    expect(stream.logs).toEqual(Array.from({ length: 40 }, (_, index) => `cursor:${index + 1}`))
    const ids = stream.events.map(({ id }) => id)
    expect(new Set(ids).size).toBe(ids.length)
    for (const [index, { id }] of stream.events.entries()) {
      const resumed = await client.listen(id)
      await resumed.over()
      const rest = stream.events.slice(index + 1)
      expect(resumed.events.filter(({ data }) => data !== '')).toEqual(rest)
    }
  })

  it('lead to no stream but their own', async () => {
    const client = await open()
    const [one, two] = await Promise.all([
      client.stream(client.toolCall('slow', { tag: 'stream-one', steps: 4 })),
      client.stream(client.toolCall('slow', { tag: 'stream-two', steps: 4 })),
    ])
    await Promise.all([one.over(), two.over()])
    const resumed = await client.listen(one.events[0]!.id)
    await resumed.over()
    expect(resumed.logs).toEqual(one.logs)
  })

  it('of another session, and malformed ones, are refused without a single event', async () => {
    const [mine, theirs] = [await open(), await open()]
    const stream = await theirs.stream(theirs.toolCall('slow', { tag: 'theirs', steps: 2 }))
    await stream.over()
    const foreign = stream.events.map(({ id }) => id!)
    const nonsense = [
      'x',
      '0',
      '-1',
      '999999999999999999999',
      "1' OR '1'='1",
      '_GET_stream',
      'a'.repeat(5000),
    ]
    for (const id of [...foreign, ...nonsense]) {
      const response = await mine.get({ 'last-event-id': id })
      expect([400, 404], id).toContain(response.status)
      await response.text()
    }
    expect(await mine.tool('echo', { text: 'unharmed' })).toBe('unharmed')
  })
})

describe.each(stores)('a stream whose client is away, on %s', (store) => {
  let served: Wrapped
  beforeAll(async () => {
    served = await serve(appShape('node'), store)
  })
  afterAll(() => served.close())

  async function open(): Promise<RawClient> {
    const client = await RawClient.open(served.url)
    onTestFinished(() => client.close())
    return client
  }
  const isAnswer = ({ result, error }: Message) => (result ?? error) !== undefined

  it('keeps what the tool sends meanwhile, the result included, and ends after it', async () => {
    const client = await open()
    const stream = await client.stream(client.toolCall('slow', { tag: 'away', steps: 5, ms: 50 }))
    await stream.count(2)
    stream.close()
    await until('the end of the tool', () =>
      served.journal.entries().some(({ what, tag }) => what === 'end' && tag === 'away'),
    )
    const resumed = await client.listen(stream.lastEventId)
    await resumed.over()
    expect(resumed.state).toBe('ended')
    expect(ledger(served.journal, [...stream.logs, ...resumed.logs], { tags: ['away'] })).toEqual(balanced)
    expect(resumed.messages.filter(isAnswer)).toHaveLength(1)
  })

  it('goes on live after a resume while the tool is running', async () => {
    const client = await open()
    const stream = await client.stream(client.toolCall('slow', { tag: 'live', steps: 10, ms: 50 }))
    await stream.count(3)
    stream.close()
    const resumed = await client.listen(stream.lastEventId)
    await resumed.next('the result', isAnswer)
    await resumed.over()
    expect(ledger(served.journal, [...stream.logs, ...resumed.logs], { tags: ['live'] })).toEqual(balanced)
  })

  it('is over when it is resumed after its last event', async () => {
    const client = await open()
    const stream = await client.stream(client.toolCall('echo', { text: 'done' }))
    await stream.over()
    const response = await client.get({ 'last-event-id': stream.lastEventId })
    expect([200, 204]).toContain(response.status)
    const resumed = response.status === 200 ? await client.listen(stream.lastEventId) : undefined
    await resumed?.over()
    expect(resumed?.messages ?? []).toEqual([])
  })

  it('keeps what was sent before the first standalone stream was opened', async () => {
    const client = await open()
    expect(await client.tool('burst', { tag: 'early', count: 3, via: 'standalone' })).toBe('early sent 3')
    const stream = await client.listen()
    await until('what was sent early', () => stream.logs.length >= 3)
    expect(stream.logs).toEqual(['early:1', 'early:2', 'early:3'])
  })

  it('gives the standalone stream to the newest connection, and each message to one', async () => {
    const client = await open()
    const first = await client.listen()
    await client.tool('burst', { tag: 'newest', count: 2, via: 'standalone' })
    await until('the first two', () => first.logs.length === 2)
    const second = await client.listen()
    await first.over()
    await client.tool('later', { tag: 'newest-later', count: 2 })
    await until('the next two', () => second.logs.length === 2)
    expect(first.logs).toEqual(['newest:1', 'newest:2'])
    expect(second.logs).toEqual(['newest-later:1', 'newest-later:2'])
  })
})

describe('after an answer that is an error', () => {
  // The client of the first line takes an error for a cut connection and resumes; it must be able to stop.
  it.each(['v1', 'v2'] as const)('a client of line %s comes to rest', async (sdk) => {
    const served = await serveWrapped(appShape('express5'), { options })
    const client = await OfficialClient.connect(sdk, served.url)
    onTestFinished(async () => {
      await client.close()
      await served.close()
    })
    await client.listening()
    await expect(client.client.readResource({ uri: 'test://nothing' })).rejects.toThrow()
    for (let index = 0; index < 20; index++) await client.tool('echo', { text: 'time passes' })
    const resumes = client.exchanges.filter(({ method, lastEventId }) => method === 'GET' && lastEventId)
    expect(resumes.length).toBeLessThanOrEqual(1)
  })
})
