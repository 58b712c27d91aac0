import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { withPersistence } from '../../src/index.ts'
import { appShape } from '../support/apps/app-shapes.ts'
import { type Backend, type StoreSpace, storeSpace } from '../support/backends.ts'
import { RawClient } from '../support/clients/raw-client.ts'
import { type Journal, memoryJournal } from '../support/journal.ts'
import { type Listening, listen } from '../support/net/listen.ts'

const backends: readonly Backend[] = ['sqlite', 'redis', 'postgres']
const quiet = { debug() {}, info() {}, warn() {}, error() {} }
const counting = (tag: string, count: number) =>
  Array.from({ length: count }, (_, index) => `${tag}:${index + 1}`)

describe.each(backends)(
  'serverless on %s: each request at a handler of its own, closed after it',
  (backend) => {
    let space: StoreSpace
    let front: Listening
    let journal: Journal
    const ends: Promise<void>[] = []
    beforeAll(async () => {
      space = await storeSpace(backend)
      journal = memoryJournal()
      const { app } = await appShape('factory').build({ journal })
      front = await listen((req, res) => {
        const handler = withPersistence(app as never, space.url, {
          idle: 0,
          retryInterval: 10,
          logger: quiet,
        })
        res.once('close', () => ends.push(handler.close({ deadline: 0 })))
        handler(req, res)
      })
    })
    afterAll(async () => {
      await front?.close()
      await Promise.all(ends)
      await space.remove()
    })

    async function open(): Promise<RawClient> {
      const client = await RawClient.open(`${front.origin}/mcp`)
      onTestFinished(() => client.close())
      return client
    }

    it('one session goes through many of them', async () => {
      const client = await open()
      for (const text of ['one', 'two', 'three']) expect(await client.tool('echo', { text })).toBe(text)
      const { result } = await client.call(client.request('tools/list'))
      expect(JSON.stringify(result)).toContain('slow_read_only')
      const seen = JSON.parse(await client.tool('client'))
      expect(seen).toMatchObject({ name: 'raw-client', capabilities: { sampling: {}, roots: {} } })
      // Each rehydration tells the app once that its client is initialized.
      const instances = journal.entries().filter(({ what }) => what === 'initialized')
      expect(instances.length).toBeGreaterThan(4)
    })

    it('a call is read again from where its client was', async () => {
      const client = await open()
      const stream = await client.stream(client.toolCall('slow', { tag: 'short', steps: 5, ms: 5 }))
      await stream.over()
      expect(stream.logs).toEqual(counting('short', 5))
      const again = await client.listen(stream.events[2]!.id)
      await again.over()
      expect([...stream.logs.slice(0, 2), ...again.logs]).toEqual(counting('short', 5))
    })

    it('a question is answered through another handler than the one that asks', async () => {
      const client = await open()
      const stream = await client.stream(client.toolCall('sample', { prompt: 'who?' }))
      const question = await stream.next('the question', ({ method }) => method === 'sampling/createMessage')
      const answer = { model: 'm', role: 'assistant', content: { type: 'text', text: 'me' } }
      const accepted = await client.answer(question, answer)
      await accepted.text()
      expect(accepted.status).toBe(202)
      const { result } = await stream.next('the result', (message) => message.result !== undefined)
      expect(JSON.stringify(result)).toContain('who? -> me')
    })

    it('after DELETE it is gone', async () => {
      const client = await open()
      const deleted = await client.delete()
      await deleted.text()
      const response = await client.post(client.request('tools/list'))
      await response.text()
      expect([deleted.status, response.status]).toEqual([200, 404])
    })
  },
)
