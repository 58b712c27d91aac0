import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { expect, inject, test } from 'vitest'
import { newSchema, withSchema } from './support.ts'

const STORE = new URL('../../src/store/postgres/postgres-store.ts', import.meta.url).href

/** A process of its own: what is left open there keeps it alive, and is listed. */
async function left(body: string): Promise<string[]> {
  const code = `
    import { PostgresEventStore } from ${JSON.stringify(STORE)}
    const logger = { debug() {}, info() {}, warn() {}, error() {} }
    const url = ${JSON.stringify(withSchema(inject('postgresUrl'), newSchema()))}
    const before = process.getActiveResourcesInfo()
    const open = (options) => new PostgresEventStore({ url, logger, autoMigrate: true, ...options })
    ${body}
    await new Promise((resolve) => setTimeout(resolve, 300))
    const after = process.getActiveResourcesInfo()
    for (const name of before) if (after.includes(name)) after.splice(after.indexOf(name), 1)
    console.log(JSON.stringify(after))`
  const args = ['--import', 'tsx', '--input-type=module', '-e', code]
  const { stdout } = await promisify(execFile)(process.execPath, args, { timeout: 25_000 })
  return JSON.parse(stdout) as string[]
}

test('a store that was used for everything leaves nothing open, and may be closed by everybody', async () => {
  const found = await left(`
    const store = open()
    await store.bus.subscribe('c', () => {})
    await store.bus.receive('n', () => {})
    await store.nodes.register({ id: 'n', publicKey: 'k', profile: '{}' }, 60_000)
    const event = { streamId: 'a', kind: 'message', payload: '{}' }
    await Promise.all(Array.from({ length: 30 }, () => store.log.read({ sessionId: 's', after: 0, limit: 1 })))
    await store.log.append({ sessionId: 's', events: [event], ttl: 1000 })
    // Under way while it is closed: what was accepted is settled.
    const late = [store.bus.send('n', Buffer.alloc(20_000)), store.log.append({ sessionId: 's', events: [event], ttl: 1000 })]
    await Promise.all([store.close(), store.close()])
    await Promise.all(late)
    await store.close()`)
  expect(found).toEqual([])
})

test('nor does one that is closed while it opens its connections, or whose server is away', async () => {
  const found = await left(`
    const opening = open()
    const calls = [opening.ready(), opening.bus.subscribe('c', () => {})].map((call) => call.catch(() => {}))
    await opening.close()
    await Promise.all(calls)
    const away = open({ url: 'postgres://nobody@127.0.0.1:9/x', timeout: 300, autoMigrate: false })
    const failing = away.bus.subscribe('c', () => {}).catch(() => {})
    await away.close()
    await failing`)
  expect(found).toEqual([])
})
