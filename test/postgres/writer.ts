// Run as a process of its own: some writers of one session, each counting up, in the way its second argument names.
import pg from 'pg'
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
