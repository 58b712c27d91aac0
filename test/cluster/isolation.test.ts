import { readFileSync } from 'node:fs'
import { Redis } from 'ioredis'
import pg from 'pg'
import { describe, expect, it, onTestFinished } from 'vitest'
import { tokens } from '../support/apps/auth.ts'
import { type Backend, storeSpace } from '../support/backends.ts'
import { RawClient } from '../support/clients/raw-client.ts'
import { hostCluster } from '../support/cluster.ts'
import { pauseOutsideTransaction } from '../support/pause.ts'
import { until } from '../support/wait.ts'

const backends: readonly Backend[] = ['sqlite', 'redis', 'postgres']
const bearer = (token: string) => ({ authorization: `Bearer ${token}` })

async function statusOf(response: Promise<Response>): Promise<number> {
  const answer = await response
  await answer.text()
  return answer.status
}

async function valuesOf(client: Redis, key: string): Promise<readonly Buffer[]> {
  const type = await client.type(key)
  if (type === 'list') return client.lrangeBuffer(key, 0, -1)
  if (type === 'hash') return Object.values(await client.hgetallBuffer(key))
  if (type === 'set') return client.smembersBuffer(key)
  if (type === 'zset') return client.zrangeBuffer(key, '0', '-1')
  if (type === 'string') return [(await client.getBuffer(key))!]
  throw new Error(`The key ${key} is a ${type}.`)
}

/** Everything that lies in a store, as one text. */
/** Characters that travel in no push: as a parcel. */
const LARGE = 40_000

const dumps: Record<string, (url: string) => Promise<string>> = {
  async sqlite(url) {
    const path = url.slice('sqlite:'.length)
    return ['', '-wal'].map((suffix) => readFileSync(path + suffix, 'latin1')).join('')
  },
  async redis(url) {
    const [server, prefix] = url.split('?keyPrefix=')
    const client = new Redis(server!)
    const parts: string[] = []
    try {
      const keys = await client.keys(`${prefix}*`)
      for (const key of keys) {
        const values = await valuesOf(client, key)
        parts.push(key, ...values.map((value) => value.toString('latin1')))
      }
    } finally {
      client.disconnect()
    }
    return parts.join('\n')
  },
  async postgres(url) {
    const target = new URL(url)
    const schema = target.searchParams.get('schema')
    target.searchParams.delete('schema')
    const client = new pg.Client({ connectionString: target.toString() })
    await client.connect()
    const parts: string[] = []
    try {
      const tables = await client.query('SELECT tablename FROM pg_tables WHERE schemaname = $1', [schema])
      for (const { tablename } of tables.rows) {
        const { rows } = await client.query(`SELECT * FROM "${schema}"."${tablename}"`)
        for (const row of rows) {
          for (const value of Object.values(row)) {
            parts.push(Buffer.isBuffer(value) ? value.toString('latin1') : JSON.stringify(value))
          }
        }
      }
    } finally {
      await client.end()
    }
    return parts.join('\n')
  },
}

describe.each(backends)('three processes on %s, each user with sessions of its own', (backend) => {
  it('a stranger gets 404 everywhere, and the store never sees a credential', async () => {
    const space = await storeSpace(backend)
    onTestFinished(() => space.remove())
    const cluster = await hostCluster({
      shape: 'express5',
      store: space.url,
      app: { auth: true },
      options: { principal: true, retryInterval: 20 },
    })
    onTestFinished(() => cluster.close())
    const [home, edge] = cluster.nodes
    const alice = await RawClient.open(home!.url, { headers: bearer(tokens.alice) })
    const away = alice.clone(edge!.url)
    onTestFinished(() => {
      for (const client of [alice, away]) client.close()
    })
    const asked = await away.stream(away.toolCall('sample', { prompt: 'who?' }))
    const question = await asked.next('the question', ({ method }) => method === 'sampling/createMessage')
    const call = away.toolCall('slow', { tag: 'mine', steps: 100, ms: 20 })
    const running = await away.stream(call)
    await running.count(2)

    for (const { url } of cluster.nodes) {
      const bob = alice.clone(url)
      bob.headers = bearer(tokens.bob)
      const cancel = { jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: call.id } }
      const evil = { model: 'evil', role: 'assistant', content: { type: 'text', text: 'evil' } }
      expect(await statusOf(bob.post(bob.request('tools/list')))).toBe(404)
      expect(await statusOf(bob.get())).toBe(404)
      expect(await statusOf(bob.get({ 'last-event-id': asked.events[0]!.id }))).toBe(404)
      expect(await statusOf(bob.answer(question, evil))).toBe(404)
      expect(await statusOf(bob.post(cancel))).toBe(404)
      expect(await statusOf(bob.delete())).toBe(404)
    }
    const good = { model: 'good', role: 'assistant', content: { type: 'text', text: 'alice' } }
    expect(await statusOf(away.answer(question, good))).toBe(202)
    const answered = await asked.next('the result', ({ result }) => result !== undefined)
    expect(JSON.stringify(answered.result)).toContain('who? -> alice')
    expect(running.state).toBe('open')

    // The owner sleeps for a moment, so that the message with the next request lies in the store when we look. Between the
    // processes of one host it takes another way, and the store must never see it.
    const empty = (await dumps[backend]!(space.url)).length
    await pauseOutsideTransaction(home!.host, space.url)
    onTestFinished(() => home!.host.resume())
    const late = away.tool('echo', { text: 'x'.repeat(LARGE) })
    const least = backend === 'sqlite' ? empty : empty + LARGE
    const dump = await until('the message', async () => {
      const text = await dumps[backend]!(space.url)
      return text.length >= least ? text : undefined
    })
    home!.host.resume()
    expect(await late).toHaveLength(LARGE)
    // It is the store that we look at, and the message is in it, sealed.
    expect(dump).toContain(alice.session)
    expect(dump).toContain('mine:1')
    expect(dump).not.toContain('x'.repeat(100))
    expect(dump.toLowerCase()).not.toContain('authorization')
    for (const token of Object.values(tokens)) expect(dump).not.toContain(token)
  })
})

describe('what Redis is told', () => {
  it('has no credential in any command, while requests are forwarded', async () => {
    const space = await storeSpace('redis')
    const [server, prefix] = space.url.split('?keyPrefix=')
    const cluster = await hostCluster({
      shape: 'express5',
      store: space.url,
      app: { auth: true },
      options: { principal: true },
    })
    onTestFinished(() => cluster.close())
    const client = new Redis(server!)
    const monitor = await client.monitor()
    onTestFinished(() => {
      monitor.disconnect()
      client.disconnect()
    })
    const commands: string[] = []
    monitor.on('monitor', (_time: string, args: string[]) => void commands.push(args.join(' ')))
    const alice = await RawClient.open(cluster.url, { headers: bearer(tokens.alice) })
    onTestFinished(() => alice.close())
    for (let turn = 0; turn < 6; turn++)
      expect(await alice.tool('echo', { text: `turn ${turn}` })).toBe(`turn ${turn}`)
    await until('the commands', () => commands.some((command) => command.includes('turn 5')))
    const all = commands.join('\n')
    expect(all).toContain(prefix)
    expect(all.toLowerCase()).not.toContain('authorization')
    for (const token of Object.values(tokens)) expect(all).not.toContain(token)
  })
})
