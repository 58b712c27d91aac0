import { describe, expect, it, onTestFinished } from 'vitest'
import { appShape } from '../support/apps/app-shapes.ts'
import { backends, storeSpace } from '../support/backends.ts'
import { RawClient, textOf } from '../support/clients/raw-client.ts'
import { serveCluster } from '../support/cluster.ts'

/*
 * A tool that sends its client away at once (`closeSSEStream` before its first word). Wherever the call was made, its
 * response ends, with an id to come back with; and wherever the client comes back, it gets all that was said, once. The
 * client gives nothing up because it hears nothing: a response that stays open and silent fails the test.
 */
const CALLS = 12
const PATIENCE = 10_000

describe.each(backends)('three nodes on %s', (backend) => {
  it.each(['factory', 'express5'] as const)(
    'cut: a call that cuts its own stream at once is resumed at any node (%s)',
    async (shape) => {
      const space = await storeSpace(backend)
      onTestFinished(() => space.remove())
      const cluster = await serveCluster(appShape(shape), {
        store: space.url,
        options: { retryInterval: 10 },
      })
      onTestFinished(() => cluster.close())
      const client = await RawClient.open(cluster.nodes[0]!.url)
      const at = (index: number) => client.clone(cluster.nodes[index % 3]!.url)

      const calls = Array.from({ length: CALLS }, async (_, i) => {
        const tag = `cut-${i}`
        const call = at(i).toolCall('cut', { tag, before: 0, after: 2, ms: i % 3 === 0 ? 1 : 20 })
        const heard = { ids: [] as string[], logs: [] as string[] }
        let stream = await at(i).stream(call)
        for (let turn = 1; turn <= 20; turn += 1) {
          await stream.over(PATIENCE)
          heard.ids.push(...stream.events.flatMap(({ id, message }) => (id && message ? [id] : [])))
          heard.logs.push(...stream.logs)
          const answer = stream.messages.find(({ id }) => id === call.id)
          if (answer) return { tag, heard, answer }
          expect(stream.lastEventId, `${tag} can be resumed`).toBeDefined()
          stream = await at(i + turn).listen(stream.lastEventId)
        }
        throw new Error(`${tag} has no answer`)
      })
      for (const { tag, heard, answer } of await Promise.all(calls)) {
        expect(textOf(answer.result)).toBe(`${tag} cut after 0`)
        expect(heard.logs).toEqual([`${tag}:1`, `${tag}:2`])
        expect(new Set(heard.ids).size).toBe(heard.ids.length)
      }
    },
    60_000,
  )
})
