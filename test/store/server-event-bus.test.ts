import { createMcpHandler, McpServer } from '@modelcontextprotocol/server'
import { expect, test, vi } from 'vitest'
import { MemoryEventStore, openStore } from '../../src/index.ts'

test('an event published on one node is heard once by the listeners of every node, and by none that has left', async () => {
  const store = new MemoryEventStore()
  const [here, there] = [store.serverEventBus<{ kind: string }>(), store.serverEventBus<{ kind: string }>()]
  const heard: string[] = []
  const leave = here.subscribe(({ kind }) => heard.push(`here ${kind}`))
  there.subscribe(({ kind }) => heard.push(`there ${kind}`))
  here.publish({ kind: 'tools_list_changed' })
  await vi.waitFor(() => expect(heard).toEqual(['here tools_list_changed', 'there tools_list_changed']))
  leave()
  there.publish({ kind: 'prompts_list_changed' })
  await vi.waitFor(() => expect(heard.slice(2)).toEqual(['there prompts_list_changed']))
})

test('it fits the handler of the v2 SDK', async () => {
  const handler = createMcpHandler(() => new McpServer({ name: 'era', version: '1' }), {
    bus: new MemoryEventStore().serverEventBus(),
  })
  await handler.close()
})

test.each(['memory:', 'sqlite::memory:', 'redis://127.0.0.1:1', 'postgres://127.0.0.1:1/x'])(
  'an event that %s could not carry is told to the logger it was opened with',
  async (url) => {
    const errors: object[] = []
    const logger = { debug() {}, info() {}, warn() {}, error: (facts: object) => void errors.push(facts) }
    const store = openStore(url, { logger })
    await store.close()
    store.serverEventBus<{ kind: string }>().publish({ kind: 'tools_list_changed' })
    await vi.waitFor(() =>
      expect(errors).toMatchObject([{ operation: 'publish', error: expect.stringContaining('is closed') }]),
    )
  },
)
