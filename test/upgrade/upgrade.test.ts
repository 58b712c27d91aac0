import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { Redis } from 'ioredis'
import pg from 'pg'
import { describe, inject, onTestFinished, test } from 'vitest'
import { loadMigrations } from '../../src/store/migrations/load.ts'
import { openStore } from '../../src/store/open-store.ts'
import { appShape } from '../support/apps/app-shapes.ts'
import { resourceUri } from '../support/apps/tools.ts'
import { RawClient, textOf } from '../support/clients/raw-client.ts'
import { serveWrapped } from '../support/serve.ts'
import { startRedis } from '../support/services/redis.ts'
import type { RecordedEvent, RecordedKey, Recording } from './recording.ts'

/** Puts what a release wrote into a new database, and resolves with its URL. */
const BACKENDS: Record<string, (folder: string) => Promise<string>> = {
  async sqlite(folder) {
    const copy = mkdtempSync(join(tmpdir(), 'mcp-persist-upgrade-'))
    onTestFinished(() => rmSync(copy, { recursive: true }))
    const path = join(copy, 'mcp.db')
    const db = new Database(path)
    db.exec(readFileSync(join(folder, 'sqlite.sql'), 'utf8'))
    db.close()
    return `sqlite:${path}`
  },
  async redis(folder) {
    const service = await startRedis()
    onTestFinished(() => service.stop())
    const client = new Redis(service.url)
    const { keys } = JSON.parse(readFileSync(join(folder, 'redis.json'), 'utf8')) as { keys: RecordedKey[] }
    const bytes = (text: string) => Buffer.from(text, 'base64')
    for (const { key, string, list = [], zset = [], set = [] } of keys) {
      if (string !== undefined) await client.set(key, bytes(string))
      if (list.length > 0) await client.rpush(key, ...list.map(bytes))
      for (let i = 0; i < zset.length; i += 2) await client.zadd(key, zset[i + 1]!, zset[i]!)
      if (set.length > 0) await client.sadd(key, ...set)
    }
    client.disconnect()
    return service.url
  },
  async postgres(folder) {
    const schema = `upgrade_${randomBytes(6).toString('hex')}`
    const url = inject('postgresUrl')
    const client = new pg.Client({ connectionString: url })
    await client.connect()
    const [events, sessions] = loadMigrations('postgres')
    assert.deepEqual([events?.name, sessions?.name], ['0001_events', '0002_sessions'])
    await client.query(`CREATE SCHEMA ${schema}; SET search_path TO ${schema}`)
    await client.query(`CREATE TABLE mcp_migrations (
      name text PRIMARY KEY, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())`)
    for (const sql of [events!.sql, sessions!.sql, readFileSync(join(folder, 'postgres.sql'), 'utf8')]) {
      await client.query(sql)
    }
    await client.end()
    return `${url}${url.includes('?') ? '&' : '?'}schema=${schema}`
  },
}

const releases = readdirSync(import.meta.dirname).filter((name) => /^\d/.test(name))

describe.each(releases)('what %s wrote', (release) => {
  describe.each(Object.keys(BACKENDS))('to %s', (backend) => {
    const folder = join(import.meta.dirname, release)
    const recording = JSON.parse(readFileSync(join(folder, `${backend}.json`), 'utf8')) as Recording
    const { session, call, standalone } = recording

    async function open() {
      const store = openStore(await BACKENDS[backend]!(folder), { autoMigrate: true })
      onTestFinished(() => store.close())
      return store
    }

    test('opens, and replays under the ids that its clients know', async () => {
      const store = await open()
      await store.ready()
      const health = await store.health()
      assert.deepEqual([health.ok, health.migrations?.pending ?? []], [true, []], health.error)
      for (const events of [call, standalone]) {
        const replayed: RecordedEvent[] = []
        await store.forSession(session).replayEventsAfter(events[0]!.id, {
          send: async (id, message) => void replayed.push({ id, data: JSON.stringify(message) }),
        })
        assert.deepEqual(replayed, events.slice(1))
      }
    })

    test('goes on where its clients were, without a new initialize', async () => {
      const served = await serveWrapped(appShape('factory'), { store: await open() })
      onTestFinished(() => served.close())
      const client = new RawClient(served.url)
      client.session = session
      onTestFinished(() => client.close())

      const resumed = await client.listen(call[0]!.id)
      await resumed.over()
      const resent = resumed.events.filter(({ message }) => message !== undefined)
      assert.deepEqual(
        resent.map(({ id, data }) => ({ id, data })),
        call.slice(1),
      )

      const listener = await client.listen(standalone.at(-1)!.id)
      assert.equal(await client.tool('touch', { uri: resourceUri }), 'updated')
      const asked = client.toolCall('log', { tag: 'restored' })
      assert.equal(textOf((await client.call(asked)).result), 'logged at every level')
      await listener.next('the last line', ({ params }) => params?.data === 'restored:error')
      assert.deepEqual(listener.logs, ['restored:warning', 'restored:error'])
      assert.ok(listener.messages.some(({ method }) => method === 'notifications/resources/updated'))
      const known = new Set([...call, ...standalone].map(({ id }) => id))
      // A priming event repeats where the client is; messages are new.
      const messages = listener.events.filter(({ message }) => message !== undefined)
      assert.ok(messages.every(({ id }) => !known.has(id!)))

      // New sessions find their place beside the old one.
      const newcomer = await RawClient.open(served.url)
      assert.equal(await newcomer.tool('echo', { text: 'new' }), 'new')
    })
  })
})
