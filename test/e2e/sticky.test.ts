import { describe, expect, it, onTestFinished } from 'vitest'
import { MemoryEventStore } from '../../src/index.ts'
import type { Store } from '../../src/store/store.ts'
import { appShape } from '../support/apps/app-shapes.ts'
import { OfficialClient } from '../support/clients/official-client.ts'
import { RawClient } from '../support/clients/raw-client.ts'
import { balanced, ledger } from '../support/ledger.ts'
import { CuttingProxy } from '../support/net/cutting-proxy.ts'
import { serveWrapped, type Wrapped } from '../support/serve.ts'

/** The same store, and the names of the methods of its tables that were called. */
function watched(store: Store): { store: Store; touched: Set<string> } {
  const touched = new Set<string>()
  const spy = <T extends object>(name: string, table: T): T =>
    new Proxy(table, {
      get(target, key) {
        const value = Reflect.get(target, key)
        if (typeof value !== 'function') return value
        touched.add(`${name}.${String(key)}`)
        return value.bind(target)
      },
    })
  const view = new Proxy(store, {
    get(target, key) {
      const value = Reflect.get(target, key)
      if (key === 'sessions' || key === 'nodes' || key === 'bus') return spy(key, value)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
  return { store: view, touched }
}

async function sticky(): Promise<Wrapped & { touched: Set<string> }> {
  const { store, touched } = watched(new MemoryEventStore())
  const served = await serveWrapped(appShape('express5'), {
    store,
    options: { sessions: 'sticky', retryInterval: 10 },
  })
  onTestFinished(() => served.close())
  return { ...served, touched }
}

describe('sticky mode', () => {
  it('resumes streams and asks clients, without touching a session table', async () => {
    const served = await sticky()
    const proxy = await CuttingProxy.to(served.origin)
    const client = await OfficialClient.connect('v1', `${proxy.origin}/mcp`)
    onTestFinished(async () => {
      await client.close()
      await proxy.close()
    })
    await client.listening()
    proxy.rule = { afterEvents: 3, times: 3 }
    expect(await client.tool('slow', { tag: 'sticky', steps: 8, ms: 3 })).toBe('sticky done after 8')
    expect(ledger(served.journal, client.logs, { tags: ['sticky'] })).toEqual(balanced)
    expect(await client.tool('sample', { prompt: 'hi', via: 'standalone' })).toBe('hi -> answer(hi)')
    await client.terminate()
    expect([...served.touched]).toEqual([])
    expect((await served.store.stats()).sessions).toBe(0)
  })

  it('answers 404 for a session that another process holds', async () => {
    const [here, there] = [await sticky(), await sticky()]
    const client = await RawClient.open(here.url)
    const stranger = client.clone(there.url)
    const response = await stranger.post(stranger.request('tools/list'))
    await response.text()
    expect(response.status).toBe(404)
    expect(await client.tool('echo', { text: 'here' })).toBe('here')
  })
})
