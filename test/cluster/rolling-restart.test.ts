import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { SoakClient } from '../soak/soak-client.ts'
import { SoakNode } from '../soak/soak-node.ts'
import { type Backend, storeSpace } from '../support/backends.ts'
import { RoundRobinProxy } from '../support/net/round-robin-proxy.ts'

/** A client costs a third of a second of processor; what only many of them meet, they meet on one backend. */
const places: readonly (readonly [Backend, number])[] = [
  ['sqlite', 30],
  ['redis', 100],
  ['postgres', 30],
]
/** So many connect at the same time: one after the other they take as long as the restarts. */
const AT_ONCE = 10
// Milliseconds that a drain may take beyond the longest call that ran meanwhile; a loaded machine gets its time.
const SPARE = 10_000

test.each(places)(
  'three processes on %s are restarted one after the other, and %i clients that call, answer and listen notice nothing',
  async (backend, count) => {
    const space = await storeSpace(backend)
    const folder = await mkdtemp(join(tmpdir(), 'mcp-persist-rolling-'))
    const nodes = await Promise.all([1, 2, 3].map(() => SoakNode.start('factory', space.url, folder)))
    const proxy = await RoundRobinProxy.over(nodes.map(({ origin }) => origin))
    const wrong: string[] = []
    const clients: SoakClient[] = []
    const connecting = (first: number) =>
      Array.from({ length: AT_ONCE }, (_, i) => {
        const sdk = i % 2 === 0 ? 'v1' : 'v2'
        const how = { think: 2000, kills: false, onWrong: (what: string) => void wrong.push(what) }
        return SoakClient.connect({ sdk, url: `${proxy.origin}/mcp`, name: `c${first + i}`, ...how })
      })
    try {
      while (clients.length < count) clients.push(...(await Promise.all(connecting(clients.length))))
      let over = false
      const running = Promise.all(clients.map((client) => client.run(() => over)))
      for (const node of nodes) {
        await sleep(1000)
        const { code, took, longestCall } = await node.restart('SIGTERM')
        expect(code).toBe(0)
        expect(took).toBeLessThan(longestCall + SPARE)
      }
      await sleep(1000)
      over = true
      await running
      await Promise.all(clients.map((client) => client.finish()))
      expect(wrong).toEqual([])
      const answered = clients.flatMap((client) => Object.values(client.answered))
      expect(answered.reduce((sum, calls) => sum + calls, 0)).toBeGreaterThan(count)
    } finally {
      await proxy.close()
      await Promise.all(nodes.map((node) => node.end('SIGKILL')))
      await rm(folder, { recursive: true, force: true })
      await space.remove()
    }
  },
  180_000,
)
