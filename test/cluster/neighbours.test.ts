import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { SoakClient } from '../soak/soak-client.ts'
import { type Backend, storeSpace } from '../support/backends.ts'
import { serveHosted } from '../support/hosted.ts'
import { RoundRobinProxy } from '../support/net/round-robin-proxy.ts'
import { NOW, type Release, Releases } from '../support/releases.ts'
import { Meeting } from './meeting.ts'

let releases: Releases
let before: Release
beforeAll(async () => {
  releases = await Releases.unpack()
  before = await releases.before()
})
afterAll(() => releases.remove())

const CLIENTS = 4

test.each<Backend>(['sqlite', 'redis', 'postgres'])(
  'the release before and this one serve side by side on %s, through a deploy, its way back, and the end of either',
  async (backend) => {
    const space = await storeSpace(backend)
    const folder = await mkdtemp(join(tmpdir(), 'mcp-persist-neighbours-'))
    const options = { retryInterval: 20 }
    const hosted = { script: 'factory.ts' as const, store: space.url, folder, options, deadline: 20_000 }
    const [a, b] = await Promise.all([1, 2].map(() => serveHosted({ ...hosted, release: before })))
    const proxy = await RoundRobinProxy.over([a!.host.origin, b!.host.origin])
    const meetings: Meeting[] = []
    const meet = async (name: string, owner = a!, edge = b!) => {
      meetings.push(await Meeting.of(name, owner, edge))
      return meetings.at(-1)!
    }
    const becomes = (node: typeof a, release: Release) => () => node!.host.start(release.env)
    try {
      const wrong: string[] = []
      const clients = await Promise.all(
        Array.from({ length: CLIENTS }, (_, i) =>
          SoakClient.connect({
            sdk: i % 2 === 0 ? 'v1' : 'v2',
            url: `${proxy.origin}/mcp`,
            name: `c${i}`,
            think: 300,
            kills: false,
            onWrong: (what) => void wrong.push(what),
          }),
        ),
      )
      let over = false
      const running = Promise.all(clients.map((client) => client.run(() => over)))

      // The deploy, with both releases in its middle.
      await (await meet('old to old', a, b)).drain(becomes(a, NOW))
      const [newOwner, oldOwner] = await Promise.all([meet('old edge', a, b), meet('new edge', b, a)])
      await Promise.all([newOwner.talk(), oldOwner.talk()])
      await oldOwner.drain(becomes(b, NOW))
      // And back.
      await (await meet('new to new', a, b)).drain(becomes(a, before))
      await (await meet('new to old', b, a)).drain(becomes(b, before))

      over = true
      await running
      await Promise.all(clients.map((client) => client.finish()))
      expect(wrong).toEqual([])
      expect(clients.filter(({ answered }) => Object.keys(answered).length === 0)).toEqual([])

      // A deploy that is stuck halfway, and processes that die: who has a session then, the releases say, and not the store.
      if (backend !== 'redis') return
      await b!.host.stop()
      await b!.host.start(NOW.env)
      await (await meet('new dies', b, a)).kill(becomes(b, NOW))
      await (await meet('old dies', a, b)).kill(becomes(a, before))
    } finally {
      for (const meeting of meetings) meeting.close()
      await proxy.close()
      await Promise.all([a!.host.kill(), b!.host.kill()])
      await space.remove()
      await rm(folder, { recursive: true, force: true })
    }
  },
  300_000,
)
