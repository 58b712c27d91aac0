import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { appShape } from '../support/apps/app-shapes.ts'
import { type Backend, type StoreSpace, storeSpace } from '../support/backends.ts'
import { OfficialClient } from '../support/clients/official-client.ts'
import { RawClient, type RawStream } from '../support/clients/raw-client.ts'
import { type Cluster, serveCluster } from '../support/cluster.ts'
import { balanced, ledger } from '../support/ledger.ts'
import { CuttingProxy } from '../support/net/cutting-proxy.ts'
import { until } from '../support/wait.ts'

const cells: readonly (readonly [string, Backend])[] = [
  ['factory-v2', 'sqlite'],
  ['express5', 'redis'],
  ['factory', 'postgres'],
]
const counting = (tag: string, count: number) =>
  Array.from({ length: count }, (_, index) => `${tag}:${index + 1}`)
const told = (stream: RawStream) => stream.events.filter(({ message }) => message !== undefined)

describe.each(cells)('%s on three nodes, on %s', (name, backend) => {
  const shape = appShape(name)
  let space: StoreSpace
  let cluster: Cluster
  beforeAll(async () => {
    space = await storeSpace(backend)
    cluster = await serveCluster(shape, { store: space.url, options: { retryInterval: 10 } })
  })
  afterAll(async () => {
    await cluster?.close()
    await space.remove()
  })

  async function connect(rule = {}): Promise<{ client: OfficialClient; proxy: CuttingProxy }> {
    const proxy = await CuttingProxy.to(cluster.proxy.origin)
    const client = await OfficialClient.connect(shape.sdk, `${proxy.origin}/mcp`)
    onTestFinished(async () => {
      await client.close()
      await proxy.close()
    })
    await client.listening()
    proxy.rule = rule
    return { client, proxy }
  }

  it('calls are resumed at the next node while their tools run, wherever they are cut', async () => {
    const { client, proxy } = await connect({ afterEvents: 3 })
    const tags = ['a', 'b', 'c']
    const answers = await Promise.all(tags.map((tag) => client.tool('slow', { tag, steps: 15, ms: 60 })))
    expect(answers).toEqual(tags.map((tag) => `${tag} done after 15`))
    expect(ledger(cluster.journal, client.logs, { tags })).toEqual(balanced)
    expect(proxy.cuts).toBeGreaterThan(6)
  })

  it('the standalone stream is resumed at the next node, again and again', async () => {
    const { client, proxy } = await connect({ afterEvents: 2, method: 'GET' })
    proxy.cutNow()
    await client.tool('later', { tag: 'aside', count: 20, ms: 5 })
    await client.log('aside:20')
    expect(ledger(cluster.journal, client.logs, { tags: ['aside'] })).toEqual(balanced)
    expect(proxy.cuts).toBeGreaterThan(4)
  })

  // An app of its own offers this to tools only with an event store, and then loses what is said while it replays.
  if (name.startsWith('factory')) {
    it('a tool closes the standalone stream, wherever it is served, and loses nothing', async () => {
      const { client } = await connect()
      const gets = () => client.exchanges.filter(({ method }) => method === 'GET').length
      const before = gets()
      expect(await client.tool('cut_standalone', { tag: 'closed', count: 3 })).toBe('closed cut, sent 3')
      await client.log('closed:3')
      expect(client.logs).toEqual(counting('closed', 3))
      await until('the client to come again', () => gets() > before)
    })
  }

  it('a call that is over can be read again at each node, from each event on', async () => {
    const client = await RawClient.open(cluster.url)
    onTestFinished(() => client.close())
    const stream = await client.stream(client.toolCall('slow', { tag: 'over', steps: 4 }))
    await stream.over()
    const messages = told(stream)
    expect(stream.logs).toEqual(counting('over', 4))
    for (const { url } of cluster.nodes) {
      const there = client.clone(url)
      onTestFinished(() => there.close())
      for (const [index, { id }] of messages.slice(0, -1).entries()) {
        const again = await there.listen(id)
        await again.over()
        expect(told(again)).toEqual(messages.slice(index + 1))
      }
    }
  })

  it('a second standalone stream at another node ends the first: no message comes twice', async () => {
    const client = await RawClient.open(cluster.nodes[0]!.url)
    const streams: RawStream[] = []
    for (const { url } of cluster.nodes) {
      const there = client.clone(url)
      onTestFinished(() => there.close())
      streams.push(await there.listen())
      await client.tool('burst', { tag: `turn-${streams.length}`, count: 2, via: 'standalone' })
      await until('the messages', () => streams.at(-1)!.logs.length === 2)
    }
    await Promise.all(streams.slice(0, -1).map((stream) => stream.over()))
    expect(streams.map(({ logs }) => logs)).toEqual([1, 2, 3].map((turn) => counting(`turn-${turn}`, 2)))
  })

  it('DELETE at one node ends the session at all of them', async () => {
    const client = await RawClient.open(cluster.nodes[0]!.url)
    const [edge, other] = cluster.nodes.slice(1).map(({ url }) => client.clone(url))
    onTestFinished(() => other!.close())
    const listener = await other!.listen()
    expect(await edge!.tool('counter')).toBe('1')
    const deleted = await edge!.delete()
    await deleted.text()
    expect(deleted.status).toBeLessThan(300)
    await listener.over()
    for (const each of [client, edge!, other!]) {
      const response = await each.post(each.request('tools/list'))
      await response.text()
      expect(response.status).toBe(404)
    }
  })
})
