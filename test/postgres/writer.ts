// Run as a process of its own: some writers of one session, each counting up, in the way its second argument names.
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { isPersistError } from '../../src/errors.ts'
import { PostgresEventStore } from '../../src/store/postgres/postgres-store.ts'

const [, , how, url, schema, name, writers, each] = process.argv as unknown as string[]
const BURST = 10

const numbers = Array.from({ length: Number(writers) }, (_, i) => i)
if (how === 'store') {
  const store = new PostgresEventStore({ url: url!, schema: schema! })
  await store.ready()
  const write = async (writer: number) => {
    for (let i = 0; i < Number(each); i += BURST) {
      const burst = Array.from({ length: BURST }, (_, k) => {
        const payload = `${name}${writer}:${i + k}`
        return store.log.append({
          sessionId: 's',
          events: [{ streamId: 'a', kind: 'message', payload }],
          ttl: 3_600_000,
        })
      })
      await Promise.all(burst)
    }
  }
  await Promise.all(numbers.map(write))
  await store.close()
} else if (how === 'taking turns') {
  // The session has one owner at a time, who appends from memory until the other process has claimed it.
  const store = new PostgresEventStore({ url: url!, schema: schema! })
  await store.ready()
  let left = numbers.map((writer) => ({ writer, next: 0 }))
  while (left.length > 0) {
    const record = await store.sessions.get('s')
    const claimed = await store.sessions.claim('s', { owner: name!, generation: record!.generation })
    if (!claimed) continue
    const { generation } = claimed
    const write = async (own: { writer: number; next: number }) => {
      while (own.next < Number(each)) {
        const payload = `${name}${own.writer}:${own.next}`
        try {
          await store.log.append({
            sessionId: 's',
            events: [{ streamId: 'a', kind: 'message', payload }],
            generation,
            ttl: 3_600_000,
          })
        } catch (error) {
          if (isPersistError(error, 'FENCED')) return
          throw error
        }
        own.next += 1
      }
    }
    await Promise.all(left.map(write))
    left = left.filter(({ next }) => next < Number(each))
    // Its turn.
    await sleep(5)
  }
  await store.close()
} else {
  // The usual form: an identity column for a position, one statement for each event, a connection for each writer.
  const pool = new pg.Pool({ connectionString: url!, max: numbers.length })
  const text = `INSERT INTO ${schema}.control (payload) VALUES ($1)`
  const write = async (writer: number) => {
    for (let i = 0; i < Number(each); i++) await pool.query(text, [`${name}${writer}:${i}`])
  }
  await Promise.all(numbers.map(write))
  await pool.end()
}
