import { describe, expect, it } from 'vitest'
import { jwt } from '../support/apps/guarded.ts'
import { until } from '../support/wait.ts'
import { guardedFronts, type House, house, statusOf } from './support.ts'

const alice1 = jwt({ iss: 'https://issuer.example', sub: 'alice', n: 1 })
const alice2 = jwt({ iss: 'https://issuer.example', sub: 'alice', n: 2 })
const bob1 = jwt({ iss: 'https://issuer.example', sub: 'bob' })
/** Nothing can be seen in the tokens that have no dots. */
const users = {
  'alice-1': 'alice',
  'alice-2': 'alice',
  'bob-1': 'bob',
  [alice1]: 'alice',
  [alice2]: 'alice',
  [bob1]: 'bob',
}

/** The record but for what a claim and a release change, and the log. */
async function stored({ store }: House, id: string): Promise<unknown> {
  const record = await store.sessions.get(id)
  const { events } = await store.log.read({ sessionId: id, after: 0, limit: 1000 })
  return { principal: record?.principal, state: record?.state, delivered: record?.delivered, events }
}

describe.each(guardedFronts)('a session of a %s app whose process is gone', (framework) => {
  it.each([
    ['authorization', 'an opaque token'],
    ['x-api-key', 'an API key'],
    ['cookie', 'a cookie'],
    ['x-my-token', 'a header of its own'],
  ])(
    'by %s: is not for another user whom the app lets in, and waits for its own (%s)',
    async (header) => {
      // The app itself never asks whose a session is.
      const home = house(framework, { users, header })
      const owner = await home.node()
      const alice = await home.open(owner, 'alice-1')
      expect(
        owner.log.lines.filter(({ message }) => message.includes('nothing tells whose they are')),
      ).toHaveLength(1)
      await home.open(owner, 'bob-1')
      expect(
        owner.log.lines.filter(({ message }) => message.includes('nothing tells whose they are')),
      ).toHaveLength(1)
      const running = await alice.stream(alice.toolCall('slow', { tag: 'lost', steps: 1000, ms: 10 }))
      await running.count(2)
      await owner.leave()
      const before = await stored(home, alice.session!)
      expect(JSON.stringify(before)).not.toContain('alice-1')

      const next = await home.node()
      const bob = home.as(alice, 'bob-1', next)
      for (const again of [1, 2]) {
        expect(await statusOf(bob.post(bob.request('tools/list'))), `${again}`).toBe(404)
        expect(await statusOf(bob.get())).toBe(404)
        expect(await statusOf(bob.get({ 'last-event-id': running.events[0]!.id }))).toBe(404)
        expect(await statusOf(bob.delete())).toBe(404)
      }
      const nobody = home.as(alice, undefined, next)
      expect(await statusOf(nobody.post(nobody.request('tools/list')))).toBe(401)
      expect(await stored(home, alice.session!)).toEqual(before)

      const back = home.as(alice, 'alice-1', next)
      const resumed = await back.listen(running.events[0]!.id)
      const settled = await resumed.next('the settled call', ({ id }) => id !== undefined)
      expect(settled.error?.data).toMatchObject({ reason: 'interrupted' })
      expect(await back.tool('counter')).toBe('1')
    },
    60_000,
  )

  it('follows its client’s refreshed token, when the app has accepted that one', async () => {
    const home = house(framework, { users })
    const owner = await home.node()
    const alice = await home.open(owner, 'alice-1')
    const refreshed = home.as(alice, 'alice-2', owner)
    expect(await refreshed.tool('counter')).toBe('1')
    await owner.leave()
    const next = await home.node()
    const old = home.as(alice, 'alice-1', next)
    expect(await statusOf(old.post(old.request('tools/list')))).toBe(404)
    expect(await home.as(alice, 'alice-2', next).tool('counter')).toBe('1')
  })

  it('is for nobody who proves himself with less than its client did', async () => {
    // Everybody has the same key of the gateway; who it is stands in the other header.
    const home = house(framework, { users, header: 'x-api-key' })
    const owner = await home.node()
    const alice = await home.open(owner, 'alice-1')
    const gateway = { authorization: 'Bearer of-the-gateway' }
    expect(await statusOf(alice.post(alice.request('ping'), gateway))).toBe(200)
    await owner.leave()
    const next = await home.node()
    const bob = home.as(alice, 'bob-1', next)
    expect(await statusOf(bob.post(bob.request('ping'), gateway))).toBe(404)
    const there = home.as(alice, 'alice-1', next)
    expect(await statusOf(there.post(there.request('ping')))).toBe(404)
    expect(await statusOf(there.post(there.request('ping'), gateway))).toBe(200)
    // At its owner the app has the word, and what it accepts is what counts from then on.
    expect(await statusOf(there.post(there.request('ping')))).toBe(200)
    await next.leave()
    const last = home.as(alice, 'alice-1', await home.node())
    expect(await last.tool('counter')).toBe('1')
  })

  it('knows its client again behind a proxy that wants a proof of its own', async () => {
    const home = house(framework, { users, header: 'cookie' })
    const owner = await home.node()
    const alice = await home.open(owner, 'alice-1')
    await owner.leave()
    const there = home.as(alice, 'alice-1', await home.node())
    const proxied = { 'proxy-authorization': 'Basic b2YgdGhlIHByb3h5' }
    expect(await statusOf(there.post(there.request('ping'), proxied))).toBe(200)
  })

  it('is for whomever the app lets in, where that is asked for', async () => {
    const home = house(framework, { users }, { takeover: 'any' })
    const owner = await home.node()
    const alice = await home.open(owner, 'alice-1')
    expect((await home.store.sessions.get(alice.session!))?.state.credential).toBeUndefined()
    await owner.leave()
    const next = await home.node()
    expect(await home.as(alice, 'bob-1', next).tool('counter')).toBe('1')
  })

  it('that carries a JWT is its user’s, at its owner, elsewhere and after that, whatever the token', async () => {
    const home = house(framework, { users })
    const owner = await home.node()
    const other = await home.node()
    const alice = await home.open(owner, alice1)
    expect(owner.log.lines.filter(({ message }) => message.includes('nothing tells'))).toEqual([])
    const forged = jwt({ iss: 'https://issuer.example', sub: 'alice', forged: true })
    for (const node of [owner, other]) {
      const bob = home.as(alice, bob1, node)
      const before = node.seen()
      expect(await statusOf(bob.post(bob.toolCall('counter')))).toBe(404)
      expect(await statusOf(bob.get())).toBe(404)
      expect(await statusOf(bob.delete())).toBe(404)
      expect(node.seen() - before, 'only asked whether it lets the caller in at all').toBe(3)
      const liar = home.as(alice, forged, node)
      expect(await statusOf(liar.post(liar.toolCall('counter')))).toBe(401)
    }
    expect(await home.as(alice, alice2, other).tool('counter')).toBe('1')
    await owner.leave()
    const bob = home.as(alice, bob1, other)
    expect(await statusOf(bob.post(bob.toolCall('counter')))).toBe(404)
    const liar = home.as(alice, forged, other)
    expect(await statusOf(liar.post(liar.toolCall('counter')))).toBe(401)
    expect(await home.as(alice, alice2, other).tool('counter')).toBe('1')
  })
})

describe.each(['express', 'fastify', 'koa'] as const)(
  'a %s app whose own middleware says who asks',
  (framework) => {
    it('is asked before a request reaches the session, at its owner, elsewhere and after that', async () => {
      const home = house(framework, { users, setsAuth: true })
      const owner = await home.node()
      const other = await home.node()
      const alice = await home.open(owner, 'alice-1')
      const record = await home.store.sessions.get(alice.session!)
      expect([record?.state.principalSource, record?.principal]).toEqual([
        'app',
        expect.stringContaining('alice'),
      ])
      const listening = await alice.listen()
      for (const node of [owner, other]) {
        const bob = home.as(alice, 'bob-1', node)
        expect(await statusOf(bob.post(bob.toolCall('slow', { tag: 'evil', steps: 1 })))).toBe(404)
        expect(await statusOf(bob.post({ jsonrpc: '2.0', method: 'notifications/roots/list_changed' }))).toBe(
          404,
        )
        expect(await statusOf(bob.get())).toBe(404)
        expect(await statusOf(bob.delete())).toBe(404)
      }
      expect(await home.as(alice, 'alice-2', other).tool('counter')).toBe('1')
      await alice.tool('burst', { tag: 'hers', count: 1, via: 'standalone' })
      await until('the message', () => listening.logs.includes('hers:1'))
      expect((await home.store.sessions.get(alice.session!))?.generation).toBe(record?.generation)

      await owner.leave()
      const before = await stored(home, alice.session!)
      const bob = home.as(alice, 'bob-1', other)
      expect(await statusOf(bob.post(bob.toolCall('slow', { tag: 'evil', steps: 1 })))).toBe(404)
      expect(await stored(home, alice.session!)).toEqual(before)
      expect(home.journal.entries().filter(({ tag }) => tag === 'evil')).toEqual([])
      expect(await home.as(alice, 'alice-2', other).tool('counter')).toBe('1')
    })

    it('is asked once for each token, not at each request', async () => {
      const home = house(framework, { users, setsAuth: true })
      const owner = await home.node()
      const alice = await home.open(owner, 'alice-1')
      await alice.tool('counter')
      const before = owner.seen()
      for (let i = 0; i < 5; i += 1) await alice.tool('counter')
      expect(owner.seen() - before).toBe(5)
    })
  },
)

describe('a session that nobody’s name is on', () => {
  it('is given the first one that the app accepts', async () => {
    const home = house(
      'express',
      { users, header: 'x-api-key' },
      {
        principal: ({ headers }) => headers.get('x-user'),
      },
    )
    const owner = await home.node()
    const alice = await home.open(owner, 'alice-1')
    expect((await home.store.sessions.get(alice.session!))?.principal).toBe(null)
    alice.headers['x-user'] = 'alice'
    expect(await alice.tool('counter')).toBe('1')
    const record = await home.store.sessions.get(alice.session!)
    expect([record?.principal, record?.state.principalSource]).toEqual(['alice', 'option'])
    const bob = home.as(alice, 'bob-1', owner)
    bob.headers['x-user'] = 'bob'
    expect(await statusOf(bob.post(bob.request('tools/list')))).toBe(404)
    expect(await alice.tool('counter')).toBe('2')
  })

  it('is not given one that the app refuses', async () => {
    const home = house('express', { users }, { principal: ({ headers }) => headers.get('x-user') })
    const owner = await home.node()
    const alice = await home.open(owner, 'alice-1')
    const mallory = home.as(alice, 'mallory', owner)
    mallory.headers['x-user'] = 'mallory'
    expect(await statusOf(mallory.post(mallory.request('tools/list')))).toBe(401)
    expect((await home.store.sessions.get(alice.session!))?.principal).toBe(null)
  })
})
