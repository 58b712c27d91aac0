import { describe, expect, it } from 'vitest'
import { resourceUri } from '../support/apps/tools.ts'
import type { Backend } from '../support/backends.ts'
import { rootUri } from '../support/clients/official-client.ts'
import { until } from '../support/wait.ts'
import { connect, crash, noted, serve } from './restart-support.ts'

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
    const calls = names.map((name) => client.tool(name, { tag: name, steps: 25, ms: 60 }))
    const outcome = Promise.allSettled(calls)
    // Heard, and not only sent: a client that has no event id yet has nothing to come back with.
    const heard = (name: string) => client.logs.filter((line) => line.startsWith(`${name}:`)).length
    await until('all of them to be heard', () => names.every((name) => heard(name) > 2))

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
