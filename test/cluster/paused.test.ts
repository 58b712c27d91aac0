import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { type Backend, type StoreSpace, storeSpace } from '../support/backends.ts'
import { RawClient } from '../support/clients/raw-client.ts'
import { type HostedCluster, hostCluster } from '../support/cluster.ts'
import { pauseOutsideTransaction } from '../support/pause.ts'
import { until } from '../support/wait.ts'

const backends: readonly Backend[] = ['sqlite', 'redis', 'postgres']
// Long enough for a busy machine to pause the owner in the middle.
const STEPS = 30
const STEP = 100

const counting = (length: number) => Array.from({ length }, (_, index) => index + 1)

describe.each(backends)('three processes on %s', (backend) => {
  let space: StoreSpace
  let cluster: HostedCluster
  beforeAll(async () => {
    space = await storeSpace(backend)
    // With a lease of 1 s a node takes a store that answers after 100 ms for one that was away, and waits.
    const options = { retryInterval: 20, ttl: 120, lease: 2 }
    cluster = await hostCluster({ shape: 'factory', store: space.url, options })
  })
  afterAll(async () => {
    await cluster?.close()
    await space.remove()
  })

  const noted = (what: string, tag: string) =>
    cluster.journal.entries().filter((entry) => entry.what === what && entry.tag === tag)

  it('an owner that slept through its lease wakes up, and nothing is stored or sent twice', async () => {
    const [a, b, c] = cluster.nodes
    const owner = await RawClient.open(a!.url)
    const [edge, other] = [owner.clone(b!.url), owner.clone(c!.url)]
    onTestFinished(() => {
      for (const client of [owner, edge, other]) client.close()
    })
    const listener = await other.listen()
    const reading = edge.toolCall('slow_read_only', { tag: 'safe', steps: STEPS, ms: STEP })
    const writing = other.toolCall('slow', { tag: 'unsafe', steps: STEPS, ms: STEP })
    const [read, write] = await Promise.all([edge.stream(reading), other.stream(writing)])
    await edge.tool('later', { tag: 'aside', count: STEPS, ms: STEP })
    await Promise.all([read.count(6), write.count(6)])

    await pauseOutsideTransaction(a!.host, space.url)
    onTestFinished(() => a!.host.resume())
    const done = await read.next('the answer of the next owner', ({ id }) => id === reading.id, 20_000)
    expect(JSON.stringify(done.result)).toContain(`safe done after ${STEPS}`)
    const failed = await write.next('an end', ({ id }) => id === writing.id, 20_000)
    expect(failed.error?.message).toMatch(/may or may not/i)
    const before = listener.logs.length
    a!.host.resume()

    // The tools of the old owner run on, or are stopped, and nobody hears of it.
    const { pid } = a!.host
    const over = (tag: string) =>
      [...noted('end', tag), ...noted('aborted', tag)].some((entry) => entry.pid === pid)
    await until('the end of the old runs', () => over('safe') && over('unsafe'), 20_000)
    // At the woken node as everywhere: one session, in one place.
    expect(await other.tool('counter')).toBe('1')
    expect(await owner.tool('counter')).toBe('2')
    expect(await edge.tool('counter')).toBe('3')
    await owner.tool('burst', { tag: 'after', count: 3, via: 'standalone' })
    await until('what came after', () => listener.logs.includes('after:3'))
    expect(listener.logs.slice(before)).toEqual(['after:1', 'after:2', 'after:3'])
    expect(listener.logs.slice(0, before)).toEqual(counting(before).map((line) => `aside:${line}`))

    const lines = (logs: string[]) => logs.map((line) => Number(line.split(':')[1]))
    const second = read.logs.lastIndexOf('safe:1')
    expect(lines(read.logs.slice(0, second))).toEqual(counting(second))
    expect(lines(read.logs.slice(second))).toEqual(counting(STEPS))
    expect(lines(write.logs)).toEqual(counting(write.logs.length))
    // What is stored is what was sent: read again from its beginning, at each node.
    for (const client of [owner, edge, other]) {
      for (const stream of [read, write]) {
        const again = await client.listen(stream.events[0]!.id)
        await again.over()
        expect(again.messages).toEqual(stream.messages)
      }
    }
  })
})
