import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { inject, test } from 'vitest'
import type { LogPage } from '../../src/store/port.ts'
import type { Store } from '../../src/store/store.ts'
import { append } from '../../src/testing/support.ts'
import { fails, fill, folders, json, message, needsBuild, run, withStore } from './support.ts'

needsBuild()
const folder = folders()
const sqlite = () => `sqlite:${join(folder(), 'mcp.db')}`

/** All that the store has, with times to the second: servers round them differently. */
async function contents(store: Store): Promise<Record<string, unknown>> {
  const ids: string[] = []
  for await (const id of store.transfer!.ids()) ids.push(id)
  const seconds = (ms: number) => Math.round(ms / 2000)
  const logs = await Promise.all(
    ids.sort().map(async (sessionId) => {
      const {
        events,
        session,
        floor: _floor,
        expiresAt,
        ...log
      } = (await store.transfer!.take({
        sessionId,
        after: 0,
        limit: 1000,
      })) as LogPage
      const times = session && {
        createdAt: seconds(session.createdAt),
        lastUsedAt: seconds(session.lastUsedAt),
      }
      return [
        sessionId,
        {
          ...log,
          expiresAt: seconds(expiresAt),
          session: session && { ...session, ...times },
          events: events.map((event) => ({ ...event, expiresAt: seconds(event.expiresAt) })),
        },
      ]
    }),
  )
  return Object.fromEntries(logs)
}

async function resume(store: Store, lastEventId: string): Promise<string[]> {
  const seen: string[] = []
  await store.forSession('one').replayEventsAfter(lastEventId, { send: async (id) => void seen.push(id) })
  return seen
}

// Eleven processes, one after the other.
test('there and back: sqlite, sqlite, redis, cluster, postgres, sqlite; clients resume at each', {
  timeout: 90_000,
}, async () => {
  const name = `copy_${randomBytes(6).toString('hex')}`
  const urls = [
    sqlite(),
    sqlite(),
    `${inject('redisUrl')}?keyPrefix=${name}:`,
    `${inject('redisClusterUrl')}?keyPrefix=${name}:`,
    `${inject('postgresUrl')}?schema=${name}`,
    sqlite(),
  ]
  await json(['migrate', '--url', urls[4]!])
  const ids = await withStore(urls[0]!, async (store) => {
    const ids = await fill(store)
    for (let i = 0; i < 350; i++) await append(store, 'long', `stream ${i % 3}`, `payload ${i}`)
    return ids
  })
  const original = await withStore(urls[0]!, contents)
  for (const [i, to] of urls.entries()) {
    if (i === 0) continue
    const result = await json(['copy', '--from', urls[i - 1]!, '--to', to])
    const { sessions, logs, events } = result
    assert.deepEqual({ sessions, logs, events }, { sessions: 2, logs: 4, events: 355 })
    await withStore(to, async (store) => {
      assert.deepEqual(await contents(store), original)
      assert.deepEqual(await resume(store, ids[0]!), ids.slice(1, 3))
      assert.deepEqual(await resume(store, ids[2]!), [])
    })
  }
  await withStore(urls.at(-1)!, async (store) => {
    const { generation } = (await store.sessions.get('one'))!
    assert.ok(await store.sessions.claim('one', { owner: 'elsewhere', generation }))
    const next = await store.forSession('one').storeEvent('_GET_stream', message('after the move'))
    assert.deepEqual(await resume(store, ids[1]!), [ids[2], next])
  })
})

test('from redis, where positions are times, to the others: clients resume, and limits keep what they should', async () => {
  const name = `copy_${randomBytes(6).toString('hex')}`
  const redis = `${inject('redisUrl')}?keyPrefix=${name}:`
  const postgres = `${inject('postgresUrl')}?schema=${name}`
  await json(['migrate', '--url', postgres])
  const ids = await withStore(redis, fill)
  for (const to of [sqlite(), postgres]) {
    await json(['copy', '--from', redis, '--to', to])
    await withStore(to, async (store) => {
      await append(store, 'one', '_GET_stream', JSON.stringify(message('new')), { limit: 10 })
      const seen = await resume(store, ids[0]!)
      assert.deepEqual(seen.slice(0, 2), ids.slice(1, 3))
      assert.equal(seen.length, 3)
    })
  }
})

test('run again: nothing is doubled, what is new is added', async () => {
  const [from, to] = [sqlite(), sqlite()]
  const ids = await withStore(from, fill)
  await json(['copy', '--from', from, '--to', to])
  const text = await run(['copy', '--from', from, '--to', to])
  assert.deepEqual(
    [text.code, text.stdout, text.stderr],
    [0, 'Copied and verified 2 sessions, 1 log without a session record and 5 events.\n', ''],
  )
  const [more, claimed] = await withStore(from, async (store) => {
    const { generation } = (await store.sessions.get('two'))!
    const record = await store.sessions.claim('two', { owner: 'node-1', generation })
    return [await store.forSession('one').storeEvent('_GET_stream', message('more')), record!.generation]
  })
  assert.equal((await json(['copy', '--from', from, '--to', to])).events, 6)
  await withStore(to, async (store) => {
    assert.deepEqual(await resume(store, ids[1]!), [ids[2], more])
    assert.equal((await store.sessions.get('two'))?.generation, claimed)
  })
})

test('what went on by itself at the destination is left alone, and said', async () => {
  const [from, to] = [sqlite(), sqlite()]
  await withStore(from, fill)
  await json(['copy', '--from', from, '--to', to])
  await withStore(to, async (store) => {
    const { generation } = (await store.sessions.get('one'))!
    assert.ok(await store.sessions.claim('one', { owner: 'elsewhere', generation }))
  })
  await withStore(from, (store) => append(store, 'one', '_GET_stream', '{}'))
  const outcome = await run(['copy', '--from', from, '--to', to, '--json'])
  assert.equal(outcome.code, 1)
  assert.match(outcome.stderr, /^error: The copy is not complete: 1 session went on by itself/)
  const { leftAlone, logs } = JSON.parse(outcome.stdout) as Record<string, unknown>
  assert.deepEqual({ leftAlone, logs }, { leftAlone: 1, logs: 2 })
})

test.each(['sqlite', 'redis', 'postgres'])(
  'a session that was terminated since does not live on at the destination: %s',
  { timeout: 60_000 },
  async (backend) => {
    const name = `copy_${randomBytes(6).toString('hex')}`
    const postgres = `${inject('postgresUrl')}?schema=${name}`
    const redis = `${inject('redisUrl')}?keyPrefix=${name}:`
    const to = { sqlite: sqlite(), redis, postgres }[backend]!
    if (backend === 'postgres') await json(['migrate', '--url', to])
    const from = sqlite()
    await withStore(from, fill)
    await json(['copy', '--from', from, '--to', to])
    await withStore(from, (store) => store.sessions.terminate('one'))
    const again = await run(['copy', '--from', from, '--to', to])
    assert.deepEqual([again.code, again.stderr], [0, ''])
    assert.match(
      again.stdout,
      /^Copied and verified 1 session, .*\nTerminated 1 session, as the source has\.\n$/,
    )
    await withStore(to, async (store) => {
      assert.equal(await store.sessions.get('one'), undefined)
      assert.ok(await store.sessions.get('two'))
    })
  },
)

test('what cannot be decoded makes it fail and is counted', async () => {
  const [from, to] = [sqlite(), sqlite()]
  const ids = await withStore(from, fill)
  const database = new Database(from.slice('sqlite:'.length))
  database.exec("UPDATE mcp_events SET payload = x'7bff' WHERE position = 2")
  database.close()
  const outcome = await run(['copy', '--from', from, '--to', to])
  assert.equal(outcome.code, 1)
  assert.match(
    outcome.stderr,
    /^error: The copy is not complete: 1 event could not be decoded and was left out\.\n$/,
  )
  await withStore(to, async (store) => assert.deepEqual(await resume(store, ids[0]!), [ids[2]]))
})

test('an unmigrated destination is refused before anything is copied', async () => {
  const from = sqlite()
  await withStore(from, fill)
  const to = `${inject('postgresUrl')}?schema=nobody_made_this`
  await fails(['copy', '--from', from, '--to', to], 1, /npx mcp-persist migrate/)
})
