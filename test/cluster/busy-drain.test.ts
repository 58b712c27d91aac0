import { describe, expect, it, onTestFinished } from 'vitest'
import { appShape } from '../support/apps/app-shapes.ts'
import { storeSpace } from '../support/backends.ts'
import { RawClient, textOf } from '../support/clients/raw-client.ts'
import { hostCluster, serveCluster } from '../support/cluster.ts'

const DEADLINE = 20_000
/** What a drain may take beyond the longest call that ran when it began; a loaded machine gets its time. */
const SPARE = 3000

describe.each(['sqlite', 'redis', 'postgres'] as const)('three nodes on %s', (backend) => {
  it('drain: an owner whose clients never pause leaves when its longest call is over, and no call is lost', async () => {
    const space = await storeSpace(backend)
    onTestFinished(() => space.remove())
    const cluster = await serveCluster(appShape('factory'), { store: space.url })
    onTestFinished(() => cluster.close())
    const [owner, ...others] = cluster.nodes
    const client = await RawClient.open(owner!.url)
    const longest = client.toolCall('slow', { tag: 'longest', steps: 15, ms: 100 })
    const running = await client.clone(others[0]!.url).stream(longest)
    await running.count(2)

    let over = false
    const done: string[] = []
    const busy = others.flatMap((node, i) =>
      [0, 1].map(async (j) => {
        const caller = client.clone(node.url)
        for (let n = 0; !over; n += 1) {
          const text = `${i}.${j}.${n}`
          done.push(textOf((await caller.call(caller.toolCall('echo', { text }), 30_000)).result))
          expect(done.at(-1)).toBeDefined()
        }
      }),
    )
    await new Promise((resolve) => setTimeout(resolve, 200))
    const before = done.length
    const started = performance.now()
    await owner!.handler.close({ deadline: DEADLINE })
    const took = performance.now() - started
    expect(took).toBeLessThan(1500 + SPARE)
    const answer = await running.next('the answer of the longest call', ({ id }) => id === longest.id, 10_000)
    expect(textOf(answer.result)).toBe('longest done after 15')
    // What waited for the next owner has got it.
    await new Promise((resolve) => setTimeout(resolve, 300))
    over = true
    await Promise.all(busy)
    expect(done.length).toBeGreaterThan(before)
  }, 60_000)
})

describe('three processes', () => {
  it('drain: a call whose client went with the node that it had asked keeps nobody waiting', async () => {
    const space = await storeSpace('sqlite')
    onTestFinished(() => space.remove())
    const cluster = await hostCluster({ shape: 'factory', store: space.url, deadline: DEADLINE })
    onTestFinished(() => cluster.close())
    const [owner, edge, other] = cluster.nodes
    const client = await RawClient.open(owner!.url)
    const lost = client.clone(edge!.url)
    const running = await lost.stream(lost.toolCall('slow', { tag: 'lost', steps: 200, ms: 100 }))
    await running.count(2)
    // The client gives its connection up as the node dies, and does not come back: it has made its call anew elsewhere.
    await edge!.host.kill('SIGKILL')
    lost.close()

    const drained = performance.now()
    const ended = owner!.host.kill('SIGTERM')
    const caller = client.clone(other!.url)
    const answer = await caller.call(caller.toolCall('echo', { text: 'meanwhile' }), DEADLINE)
    expect(textOf(answer.result)).toBe('meanwhile')
    expect(await ended).toBe(0)
    // Three beats that do not come, and as long as a client may take to come back.
    expect(performance.now() - drained).toBeLessThan(7000 + SPARE)
  }, 60_000)
})
