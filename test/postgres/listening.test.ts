import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import type { PostgresEventStore } from '../../src/store/postgres/postgres-store.ts'
import { type PostgresService, startPostgres } from '../support/services/postgres.ts'
import { until, within } from '../support/wait.ts'
import { Gate } from './gate.ts'
import { admin, newSchema, openStore } from './support.ts'

let service: PostgresService
let client: pg.Client
beforeAll(async () => {
  service = await startPostgres({ own: true })
  client = await admin(service.url)
})
afterAll(() => service.stop())

async function through(options: { timeout?: number } = {}) {
  const gate = await Gate.to(service.url)
  const schema = newSchema()
  const store = await openStore({ url: gate.urlOf(service.url), schema, ...options })
  onTestFinished(async () => {
    gate.open()
    await store.close()
    await gate.close()
  })
  return { gate, schema, store }
}

async function listening(): Promise<number> {
  const text = `SELECT count(*)::int AS n FROM pg_stat_activity WHERE application_name = 'mcp-persist (wake-ups)'`
  return (await client.query(text)).rows[0].n
}

async function locks(): Promise<number> {
  const text = `SELECT count(*)::int AS n FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE locktype = 'advisory' AND application_name = 'mcp-persist (wake-ups)'`
  return (await client.query(text)).rows[0].n
}

const node = (id: string) => ({ id, publicKey: 'k', profile: '{}' })

/** As a node does it that comes back after an outage: again and again, until the store answers. */
async function joined(store: PostgresEventStore, id: string, onText: (text?: string) => void) {
  return until(`${id} to join`, async () => {
    const subscription = await store.bus.subscribe(`of ${id}`, onText).catch(() => undefined)
    try {
      if (subscription) await store.nodes.register(node(id), 60_000)
      return subscription
    } catch {
      await subscription?.close()
      return undefined
    }
  })
}

test('after any outage one connection listens, each text is heard once, and the node has its lock', async () => {
  const { gate, schema, store } = await through({ timeout: 1000 })
  const heard: string[] = []
  const listen = (name: string) => (text?: string) => text !== undefined && heard.push(`${name} ${text}`)
  await joined(store, 'node-0', listen('0'))
  for (const round of [1, 2, 3, 4, 5, 6]) {
    gate.shut()
    await sleep(150 * (round % 3))
    // Back at every moment between two retries, and with somebody who does not wait for the next.
    const joining = joined(store, `node-${round}`, listen(`${round}`))
    await sleep(37 * round)
    gate.open()
    await joining
    await sleep(400)
    expect(await listening()).toBe(1)
    heard.length = 0
    await store.bus.publish('of node-0', `text ${round}`)
    await store.bus.publish(`of node-${round}`, 'the last')
    await until('the last text', () => heard.includes(`${round} the last`))
    expect(heard).toEqual([`0 text ${round}`, `${round} the last`])
    const { rows } = await client.query(`SELECT lock_key FROM ${schema}.mcp_nodes WHERE id = $1`, [
      `node-${round}`,
    ])
    expect(rows[0].lock_key, 'its death would be seen at once').not.toBeNull()
  }
  await store.close()
  await until('every connection to be closed', () => gate.connections === 0)
}, 60_000)

test('a connection that went dead without a word is cut, and another one hears', async () => {
  const { gate, store } = await through({ timeout: 500 })
  const heard: (string | undefined)[] = []
  await store.bus.subscribe('a', (text) => heard.push(text))
  await store.bus.receive('n', (message) => heard.push(message && Buffer.from(message).toString()))
  await store.nodes.register(node('n'), 60_000)
  const before = gate.connections
  gate.freeze()
  // What needs the connection finds out that it is dead, and gets what it wanted from the next one.
  const more = await within(
    'a subscription',
    store.bus.subscribe('b', (text) => heard.push(text)),
    5000,
  )
  await until('both are told that they may have missed something', () => heard.length >= 2)
  heard.length = 0
  await until('a publication to come through', async () => {
    await store.bus.publish('a', 'again').catch(() => {})
    await store.bus.send('n', Buffer.from('message')).catch(() => {})
    return heard.includes('again') && heard.includes('message')
  })
  await until('the dead connections to be let go', () => {
    gate.probe()
    return gate.connections <= before
  })
  await until('the server to have let go of the others', async () => (await listening()) === 1)
  // A server that takes connections and says nothing: whoever gives one up lets it go.
  gate.freeze({ newcomers: true })
  await expect(store.bus.subscribe('c', () => {})).rejects.toThrow()
  await sleep(1500)
  gate.open()
  await until('a subscription', () => store.bus.subscribe('c', () => {}).catch(() => undefined))
  await until('all that was given up to be let go', () => {
    gate.probe()
    return gate.connections <= before
  })
  await until('the server to have let go of the others', async () => (await listening()) === 1)
  await more.close()
}, 30_000)

test('a connection that is lost while its node waits to say that it has its lock is replaced too', async () => {
  const { schema, store } = await through()
  const heard: (string | undefined)[] = []
  await store.bus.subscribe('a', (text) => heard.push(text))
  await store.nodes.register(node('n'), 60_000)
  const pid = async () => {
    const text = `SELECT pid FROM pg_stat_activity WHERE application_name = 'mcp-persist (wake-ups)'`
    return (await client.query(text)).rows[0]?.pid as number | undefined
  }
  const lose = async (lost: number) => void (await client.query(`SELECT pg_terminate_backend(${lost})`))
  const writer = await admin(service.url)
  await writer.query('BEGIN')
  await writer.query(`LOCK TABLE ${schema}.mcp_nodes IN EXCLUSIVE MODE`)
  const first = (await pid())!
  await lose(first)
  const second = await until('another connection that has its lock', async () => {
    const found = await pid()
    return (await locks()) === 1 && found !== first && found
  })
  await lose(second)
  await sleep(100)
  await writer.query('ROLLBACK')
  await until('a publication to come through', async () => {
    await store.bus.publish('a', 'again')
    return heard.includes('again')
  })
  await until('the node to have its lock', async () => (await locks()) === 1)
})

/** A node whose connection has broken, as far as the server knows, and another that looks at it. */
async function brokenOff() {
  const { gate, schema, store } = await through()
  const there = await openStore({ url: service.url, schema })
  onTestFinished(() => there.close())
  await store.bus.receive('n', () => {})
  await store.nodes.register(node('n'), 60_000)
  await until('its lock', async () => (await locks()) === 1)
  gate.shut()
  await until('its lock to be free', async () => (await locks()) === 0)
  return { gate, store, there }
}

test('a node whose connection broke for a moment is not called gone, in a send or a look', async () => {
  const { gate, store, there } = await brokenOff()
  const asked = Promise.all([there.bus.send('n', Buffer.from('message')), there.nodes.get('n')])
  gate.open()
  expect(await asked).toEqual([true, node('n')])
  expect(await store.nodes.renew('n', 60_000)).toBe(true)
})

test('a node that is called gone is gone for good: it does not go on under its id', async () => {
  const { gate, store, there } = await brokenOff()
  expect(await there.bus.send('n', Buffer.from('message'))).toBe(false)
  gate.open()
  expect(await store.nodes.renew('n', 60_000)).toBe(false)
  expect(await there.nodes.get('n')).toBeUndefined()
})

test('the lock of a node whose lease is let go, whoever notices it', async () => {
  const { gate, store } = await through()
  await store.bus.subscribe('a', () => {})
  await store.nodes.register(node('renews'), 100)
  await store.nodes.register(node('is silent'), 100)
  await store.nodes.register(node('lives'), 60_000)
  expect(await locks()).toBe(3)
  await sleep(150)
  expect(await store.nodes.renew('renews', 1000)).toBe(false)
  await until('its lock to be let go', async () => (await locks()) === 2)
  gate.shut()
  gate.open()
  await until('the living one to have its lock back', async () => (await locks()) === 1)
  await sleep(300)
  expect(await locks()).toBe(1)
  await store.nodes.unregister('lives')
  await until('the last to be let go', async () => (await locks()) === 0)
})

test('a pool made from fields: the listening connection has its password, ssl and functions', async () => {
  const data = (await client.query('SHOW data_directory')).rows[0].data_directory as string
  const hba = (method: string) => `host all guarded 127.0.0.1/32 ${method}\nhost all all 127.0.0.1/32 trust`
  const write = `COPY (SELECT unnest(string_to_array($hba$${hba('scram-sha-256')}$hba$, E'\\n'))) TO '${data}/pg_hba.conf'`
  await client.query(`CREATE ROLE guarded SUPERUSER LOGIN PASSWORD 'secret'`)
  await client.query(write)
  await client.query('SELECT pg_reload_conf()')
  const { hostname: host, port } = new URL(service.url)
  const fields = { host, port: Number(port), database: 'postgres', user: 'guarded', max: 4 }
  await until('the password to be asked for', async () => {
    const wrong = new pg.Client({ ...fields, password: 'wrong' })
    wrong.on('error', () => {})
    return wrong.connect().then(
      () => wrong.end().then(() => false),
      () => true,
    )
  })
  let asked = 0
  const password = async () => {
    asked += 1
    return 'secret'
  }
  for (const config of [
    { ...fields, password: 'secret' },
    { ...fields, password },
  ]) {
    const pool = new pg.Pool(config)
    const store = await openStore({ pool, schema: newSchema() })
    const heard: (string | undefined)[] = []
    await store.bus.subscribe('c', (text) => heard.push(text))
    await store.bus.publish('c', 'text')
    await until('the text', () => heard.includes('text'))
    await store.close()
    await pool.end()
  }
  expect(asked).toBeGreaterThan(1)
})
