import { describe, expect, it, onTestFinished } from 'vitest'
import { appShape } from '../support/apps/app-shapes.ts'
import { resourceUri } from '../support/apps/tools.ts'
import { type Backend, backends, storeSpace } from '../support/backends.ts'
import { OfficialClient, rootUri } from '../support/clients/official-client.ts'
import { RawClient } from '../support/clients/raw-client.ts'
import { type Hosted, type HostedOptions, serveHosted } from '../support/hosted.ts'
import type { Journal } from '../support/journal.ts'
import { until } from '../support/wait.ts'

// The lease is what Redis Cluster waits for; the others notice a dead process.
const options = { retryInterval: 50, ttl: 60, lease: 2 }

interface Place {
  readonly shape: string
  readonly backend: Backend
  readonly app?: HostedOptions['app']
}

async function serve({ shape, backend, app }: Place): Promise<Hosted> {
  const space = await storeSpace(backend)
  onTestFinished(() => space.remove())
  return serveHosted({ shape, store: space.url, options, ...(app && { app }) })
}

async function connect(shape: string, { url }: Hosted): Promise<OfficialClient> {
  const client = await OfficialClient.connect(appShape(shape).sdk, url)
  onTestFinished(() => client.close())
  await client.listening()
  return client
}

function noted(journal: Journal, what: string, tag: string): number {
  return journal.entries().filter((entry) => entry.what === what && entry.tag === tag).length
}

/** SIGKILL, and the same command again. */
async function crash({ host }: Hosted): Promise<void> {
  await host.kill('SIGKILL')
  await host.start()
}

const places: readonly (readonly [string, Backend])[] = [
  ...['express5', 'fastify', 'hono', 'node-v2', 'factory', 'factory-v2'].map(
    (shape) => [shape, 'sqlite'] as const,
  ),
  ['express5', 'redis'],
  ['factory', 'redis-cluster'],
  ['express5', 'postgres'],
]

describe.each(places)('%s on %s killed and started again', (shape, backend) => {
  it('goes on in the same session, as if nothing had been', async () => {
    const hosted = await serve({ shape, backend, app: { stableId: true } })
    const client = await connect(shape, hosted)
    const session = client.sessionId!
    await client.client.setLoggingLevel('warning')
    await client.client.subscribeResource({ uri: resourceUri })
    expect(await client.tool('counter')).toBe('1')
    expect(await client.tool('session_id')).toBe(session)

    await crash(hosted)

    const { tools } = await client.client.listTools()
    expect(tools.length).toBeGreaterThan(10)
    expect(client.sessionId).toBe(session)
    expect(await client.tool('session_id')).toBe(session)
    expect(JSON.parse(await client.tool('client'))).toMatchObject({
      name: 'official-client',
      capabilities: { sampling: {}, elicitation: {}, roots: {} },
    })
    for (const via of ['call', 'standalone']) {
      expect(await client.tool('sample', { prompt: via, via })).toBe(`${via} -> answer(${via})`)
      expect(await client.tool('roots', { via })).toBe(rootUri)
    }
    await client.tool('log', { tag: 'restored' })
    await client.log('restored:error')
    expect(client.logs).toEqual(['restored:warning', 'restored:error'])
    expect(await client.tool('touch', { uri: resourceUri })).toBe('updated')
    await until('the update', () => client.notifications('notifications/resources/updated').length === 1)
    expect(await client.tool('counter')).toBe('1')
    const initialized = hosted.journal.entries().filter(({ what }) => what === 'initialized')
    expect(initialized.map(({ session: inside }) => inside)).toEqual([session, session])
    expect(new Set(initialized.map(({ pid }) => pid)).size).toBe(2)
  })

  it('answers for the calls that were running: the safe ones by running them again', async () => {
    const hosted = await serve({ shape, backend })
    const client = await connect(shape, hosted)
    const names = ['slow', 'slow_read_only', 'slow_idempotent']
    const calls = names.map((name) => client.tool(name, { tag: name, steps: 25, ms: 20 }))
    const outcome = Promise.allSettled(calls)
    await until('all of them to run', () => names.every((name) => noted(hosted.journal, 'sent', name) > 2))

    await crash(hosted)

    const [slow, readOnly, idempotent] = await outcome
    expect(slow).toMatchObject({
      status: 'rejected',
      reason: { message: expect.stringMatching(/may or may not/i) },
    })
    expect(readOnly).toEqual({ status: 'fulfilled', value: 'slow_read_only done after 25' })
    expect(idempotent).toEqual({ status: 'fulfilled', value: 'slow_idempotent done after 25' })
    expect(names.map((name) => noted(hosted.journal, 'start', name))).toEqual([1, 2, 2])
    expect(await client.tool('echo', { text: 'goes on' })).toBe('goes on')
  })
})

describe.each(backends)('a process on %s that is killed', (backend) => {
  it('while a user is being asked: the call ends with an error, the late answer harms nobody', async () => {
    const hosted = await serve({ shape: 'express5', backend })
    const client = await RawClient.open(hosted.url)
    onTestFinished(() => client.close())
    const asked = await client.stream(client.toolCall('elicit', { message: 'name?' }))
    const question = await asked.next('the question', ({ method }) => method === 'elicitation/create')

    await crash(hosted)

    const resumed = await client.listen(asked.lastEventId)
    const answer = await resumed.next('the end of the call', ({ error }) => error !== undefined)
    expect(answer.error?.message).toMatch(/may or may not/i)
    const late = await client.answer(question, { action: 'accept', content: { name: 'too late' } })
    await late.text()
    expect(late.status).toBe(202)
    const again = await client.stream(client.toolCall('elicit', { message: 'again?' }))
    const second = await again.next('another question', ({ method }) => method === 'elicitation/create')
    expect(second.id).not.toBe(question.id)
    await client.answer(second, { action: 'accept', content: { name: 'in time' } })
    const result = await again.next('the answer', (message) => message.result !== undefined)
    expect(JSON.stringify(result)).toContain('in time')
  })

  it.each([1, 3])(
    'at any moment (%i): no event id is given twice, and what was stored arrives',
    async (seed) => {
      const hosted = await serve({ shape: 'factory', backend })
      const client = await RawClient.open(hosted.url)
      onTestFinished(() => client.close())
      const call = client.toolCall('slow_read_only', { tag: 'any', steps: 40, ms: 5 })
      const stream = await client.stream(call)
      const standalone = await client.listen()
      await client.tool('later', { tag: 'aside', count: 40, ms: 5 })
      await stream.count(1 + seed * 7)

      await crash(hosted)

      await Promise.all([stream.over(), standalone.over()])
      const rest = await client.listen(stream.lastEventId)
      await rest.next('the result', ({ id, result }) => id === call.id && result !== undefined)
      const aside = await client.listen(standalone.lastEventId)
      await client.tool('burst', { tag: 'after', count: 3, via: 'standalone' })
      await until('what came after', () => aside.logs.includes('after:3'))
      const streams = [stream, rest, standalone, aside]
      const ids = streams.flatMap(({ events }) =>
        events.filter(({ data }) => data !== '').map(({ id }) => id),
      )
      expect(new Set(ids).size).toBe(ids.length)
      // The second run sends all of it; of the first one all that was seen, and all before it.
      const lines = [...stream.logs, ...rest.logs]
      const second = lines.lastIndexOf('any:1')
      const numbers = (part: string[]) => part.map((line) => Number(line.split(':')[1]))
      const counting = (length: number) => Array.from({ length }, (_, index) => index + 1)
      expect(numbers(lines.slice(0, second))).toEqual(counting(second))
      expect(numbers(lines.slice(second))).toEqual(counting(40))
      const before = [...standalone.logs, ...aside.logs].filter((line) => line.startsWith('aside'))
      expect(numbers(before)).toEqual(counting(before.length))
    },
  )

  it('after DELETE: the session stays deleted', async () => {
    const hosted = await serve({ shape: 'express5', backend })
    const client = await RawClient.open(hosted.url)
    await (await client.delete()).text()
    await crash(hosted)
    const response = await client.post(client.request('tools/list'))
    await response.text()
    expect(response.status).toBe(404)
  })

  it('with two sessions on it: neither receives what belongs to the other', async () => {
    const hosted = await serve({ shape: 'express5', backend })
    const [one, two] = [await connect('express5', hosted), await connect('express5', hosted)]
    await one.tool('burst', { tag: 'one', count: 2, via: 'standalone' })
    await two.tool('burst', { tag: 'two', count: 2, via: 'standalone' })
    await Promise.all([one.log('one:2'), two.log('two:2')])
    await crash(hosted)
    await one.tool('burst', { tag: 'one-more', count: 2, via: 'standalone' })
    await two.tool('burst', { tag: 'two-more', count: 2, via: 'standalone' })
    await Promise.all([one.log('one-more:2'), two.log('two-more:2')])
    expect(one.logs).toEqual(['one:1', 'one:2', 'one-more:1', 'one-more:2'])
    expect(two.logs).toEqual(['two:1', 'two:2', 'two-more:1', 'two-more:2'])
  })
})

describe.each(backends)('a process on %s that is asked to end', (backend) => {
  it('lets running calls finish, ends with 0, and its clients go on with the next one', async () => {
    const hosted = await serve({ shape: 'express5', backend })
    const client = await connect('express5', hosted)
    const call = client.tool('slow', { tag: 'drained', steps: 10, ms: 30 })
    await until('the call to run', () => noted(hosted.journal, 'sent', 'drained') > 1)
    expect(await hosted.host.stop()).toBe(0)
    await hosted.host.start()
    expect(await call).toBe('drained done after 10')
    expect(noted(hosted.journal, 'start', 'drained')).toBe(1)
    expect(await client.tool('echo', { text: 'next' })).toBe('next')
    expect(client.exchanges.filter(({ status }) => status >= 400)).toEqual([])
  })
})
