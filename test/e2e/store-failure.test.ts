import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it, onTestFinished } from 'vitest'
import { MemoryEventStore, PersistError, type PersistOptions } from '../../src/index.ts'
import type { Store } from '../../src/store/store.ts'
import { appShape } from '../support/apps/app-shapes.ts'
import { RawClient } from '../support/clients/raw-client.ts'
import { serveWrapped, type Wrapped } from '../support/serve.ts'
import { until, within } from '../support/wait.ts'

/** A store that goes away: every call is refused at once, or, as a driver's timeout has it, half a second later. */
class Outage {
  mode: 'up' | 'refusing' | 'slow' = 'up'

  over(store: Store): Store {
    const guard = <T extends object>(target: T): T =>
      new Proxy(target, {
        get: (_, key) => {
          const value = Reflect.get(target, key)
          if (typeof value === 'object' && value !== null && key !== 'traits') return guard(value)
          if (typeof value !== 'function') return value
          return (...args: unknown[]) => {
            if (key === 'close' || key === 'forSession' || key === 'subscribe' || this.mode === 'up') {
              return Reflect.apply(value, target, args)
            }
            const refusal = new PersistError('STORE_UNAVAILABLE', 'The test store is away.')
            return this.mode === 'slow'
              ? sleep(500).then(() => Promise.reject(refusal))
              : Promise.reject(refusal)
          }
        },
      })
    return guard(store)
  }
}

async function serve(options: PersistOptions = {}): Promise<Wrapped & { outage: Outage }> {
  const outage = new Outage()
  const store = outage.over(new MemoryEventStore())
  const served = await serveWrapped(appShape('express5'), { store, options })
  onTestFinished(async () => {
    outage.mode = 'up'
    await served.close()
  })
  return { ...served, outage }
}

describe('while the store is away', () => {
  it('live sessions go on: answers, notifications, questions, without event ids', async () => {
    const { url, outage } = await serve()
    const client = await RawClient.open(url)
    onTestFinished(() => client.close())
    const standalone = await client.listen()
    outage.mode = 'refusing'
    expect(await client.tool('counter')).toBe('1')
    const stream = await client.stream(client.toolCall('slow', { tag: 'away', steps: 3, ms: 5 }))
    await stream.over()
    expect(stream.logs).toEqual(['away:1', 'away:2', 'away:3'])
    expect(stream.events.map(({ id }) => id).filter((id) => id !== undefined && id !== '')).toEqual([])
    await client.tool('burst', { tag: 'aside', count: 2, via: 'standalone' })
    await until('the standalone messages', () => standalone.logs.length === 2)
    outage.mode = 'up'
    const after = await client.stream(client.toolCall('echo', { text: 'back' }))
    await after.over()
    expect(after.lastEventId).toBeDefined()
  })

  it('a call fails where the user wants it so', async () => {
    const { url, outage } = await serve({ onStoreError: 'fail' })
    const client = await RawClient.open(url)
    outage.mode = 'refusing'
    const answer = await client.call(client.toolCall('echo', { text: 'no' })).catch((error: Error) => error)
    expect(JSON.stringify(answer instanceof Error ? answer.message : answer.error)).toMatch(/stor|503/i)
    outage.mode = 'up'
    expect(await client.tool('echo', { text: 'yes' })).toBe('yes')
  })

  it('a call that is running goes on, and so does its stream', async () => {
    const { url, outage } = await serve()
    const client = await RawClient.open(url)
    const stream = await client.stream(client.toolCall('slow', { tag: 'blink', steps: 10, ms: 20 }))
    await stream.count(3)
    outage.mode = 'refusing'
    await stream.count(6)
    outage.mode = 'up'
    await stream.over()
    expect(stream.logs).toEqual(Array.from({ length: 10 }, (_, index) => `blink:${index + 1}`))
  })

  it('what is said while nobody listens comes when the store and the client are back', async () => {
    const { url, outage } = await serve()
    const client = await RawClient.open(url)
    onTestFinished(() => client.close())
    outage.mode = 'refusing'
    expect(await client.tool('burst', { tag: 'unheard', count: 3, via: 'standalone' })).toBe('unheard sent 3')
    outage.mode = 'up'
    const standalone = await client.listen()
    await until('the standalone messages', () => standalone.logs.length === 3)
    expect(standalone.logs).toEqual(['unheard:1', 'unheard:2', 'unheard:3'])
  })

  it('a call that ends meanwhile, and whose client has gone, has its answer for whoever comes back', async () => {
    const { url, outage, journal } = await serve()
    const client = await RawClient.open(url)
    onTestFinished(() => client.close())
    const call = client.toolCall('slow', { tag: 'left', steps: 8, ms: 20 })
    const stream = await client.stream(call)
    await until('the first of it', () => stream.logs.length > 0)
    stream.close()
    await sleep(10)
    outage.mode = 'refusing'
    await until('the end of the call', () =>
      journal.entries().some(({ what, tag }) => what === 'end' && tag === 'left'),
    )
    await sleep(10)
    outage.mode = 'up'
    // At once: what could not be stored is tried again only a moment later.
    const rest = await client.listen(stream.lastEventId)
    await rest.next('the answer', ({ id }) => id === call.id)
    const all = [...stream.logs, ...rest.logs]
    expect(all).toEqual(Array.from({ length: 8 }, (_, index) => `left:${index + 1}`))
  })

  it('new sessions, and sessions that nobody holds, get 503 and when to come back', async () => {
    const { url, outage } = await serve()
    outage.mode = 'refusing'
    const client = new RawClient(url)
    const response = await client.post(client.initialize())
    await response.text()
    expect(response.status).toBe(503)
    expect(Number(response.headers.get('retry-after'))).toBeGreaterThan(0)
    client.session = '00000000-0000-4000-8000-000000000000'
    const unknown = await client.post(client.request('tools/list'))
    await unknown.text()
    expect(unknown.status).toBe(503)
  })

  it('a store that answers late holds nobody up for long: live sessions go on, and close() returns', async () => {
    const served = await serve()
    const client = await RawClient.open(served.url)
    served.outage.mode = 'slow'
    const answered = await within('a call', client.tool('counter'), 15_000)
    expect(answered).toBe('1')
    await within('close', served.handler.close({ deadline: 100 }), 15_000)
  })
})
