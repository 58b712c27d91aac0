import { expect, it, onTestFinished, vi } from 'vitest'
import { MemoryEventStore } from '../../src/index.ts'
import { appShape } from '../support/apps/app-shapes.ts'
import { RawClient, textOf } from '../support/clients/raw-client.ts'
import { serveWrapped } from '../support/serve.ts'

/** A client whose session is at one node, and the same client at another; both on one store. */
async function ownerAndEdge() {
  const store = new MemoryEventStore()
  const nodes = await Promise.all([0, 1].map(() => serveWrapped(appShape('factory'), { store })))
  const owner = await RawClient.open(nodes[0]!.url)
  const edge = owner.clone(nodes[1]!.url)
  onTestFinished(async () => {
    for (const client of [owner, edge]) client.close()
    await Promise.all(nodes.map(({ handler }) => handler.close({ deadline: 0 })))
    await Promise.all(nodes.map((node) => node.close()))
  })
  return { store, edge }
}

it('a call at another node than the owner can be resumed before the tool has said anything', async () => {
  const { edge } = await ownerAndEdge()
  const call = edge.toolCall('slow', { tag: 'quiet', steps: 2, ms: 400 })
  const stream = await edge.stream(call)
  await stream.count(1, 300)
  expect(stream.events[0]).toMatchObject({ id: expect.any(String), data: '' })
  stream.close()
  const rest = await edge.listen(stream.lastEventId)
  const answer = await rest.next('the answer', ({ id }) => id === call.id)
  expect(textOf(answer.result)).toBe('quiet done after 2')
  expect(rest.logs).toEqual(['quiet:1', 'quiet:2'])
})

it('a quick call takes two messages, and what the owner tells is enough for the edge: the log is not read', async () => {
  const { store, edge } = await ownerAndEdge()
  const read = vi.spyOn(store.log, 'read')
  const send = vi.spyOn(store.bus, 'send')
  for (let i = 0; i < 10; i += 1) {
    const answer = await edge.call(edge.toolCall('echo', { text: `n${i}` }))
    expect(textOf(answer.result)).toBe(`n${i}`)
  }
  expect(read).toHaveBeenCalledTimes(0)
  // Now and then a beat, or the word that the last answer has arrived.
  expect(send.mock.calls.length).toBeGreaterThanOrEqual(20)
  expect(send.mock.calls.length).toBeLessThanOrEqual(26)
})
