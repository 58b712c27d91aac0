import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it, onTestFinished } from 'vitest'
import { appShape } from '../support/apps/app-shapes.ts'
import { storeSpace } from '../support/backends.ts'
import { type Message, RawClient, type RawStream, textOf } from '../support/clients/raw-client.ts'
import { type Cluster, serveCluster } from '../support/cluster.ts'
import { TcpProxy } from '../support/net/tcp-proxy.ts'
import { generator } from '../support/random.ts'

/*
 * Every connection to the store breaks again and again, after a number of bytes that the seed draws: in the middle of
 * a statement, after one whose answer is lost, while listening. No process dies and no lease is lost, so each call runs
 * once and every client has all of it, in order, once. Nobody gives a stream up because it is silent.
 */
/**
 * The default port, and the bytes that a connection lives: a node has one to Redis, and several to PostgreSQL. One of those holds the
 * lock by which the others know that the node is there: were it not to be made at all twice in a row, the node would be taken for dead.
 */
const PLACES = [
  ['redis', 6379, 200, 60_000],
  ['postgres', 5432, 12_000, 48_000],
] as const
const LASTS = 6000
const PATIENCE = 30_000
const LANES = 6
const quiet = { debug() {}, info() {}, warn() {}, error() {} }
const counting = (tag: string, count: number) =>
  Array.from({ length: count }, (_, index) => `${tag}:${index + 1}`)

describe.each(PLACES)('three nodes on %s', (backend, port, least, most) => {
  it.each([1])(
    'connections to the store that break at any byte lose nothing, double nothing, hang nobody (seed %i)',
    async (seed) => {
      const random = generator(seed)
      const space = await storeSpace(backend)
      const proxy = await TcpProxy.to(space.url, port)
      const cluster = await serveCluster(appShape('factory'), {
        store: proxy.urlOf(space.url),
        options: { retryInterval: 10, lease: 10, logger: quiet },
      })
      onTestFinished(async () => {
        proxy.life = undefined
        await cluster.close()
        await proxy.close()
        await space.remove()
      })
      const client = await RawClient.open(cluster.nodes[0]!.url)
      const crowd = new Crowd(client, cluster)
      proxy.life = () => least + Math.floor(random() ** 2 * most)
      await proxy.cut('now')

      let over = false
      const lanes = Array.from({ length: LANES }, async (_, lane) => {
        for (let turn = 0; !over; turn += 1) await crowd.call(lane + turn, `${lane}-${turn}`, turn % 3)
      })
      await sleep(LASTS)
      over = true
      await Promise.all(lanes)
      expect(proxy.cuts).toBeGreaterThan(4)
      expect(crowd.calls).toBeGreaterThan(LANES)
      const started = cluster.journal.entries().filter(({ what }) => what === 'start')
      expect(started.map(({ tag }) => tag)).toHaveLength(new Set(started.map(({ tag }) => tag)).size)
    },
    120_000,
  )
})

/** Clients of one session at all nodes, each of which comes back until it has its answer. */
class Crowd {
  calls = 0
  readonly #clients: readonly RawClient[]

  constructor(client: RawClient, cluster: Cluster) {
    this.#clients = cluster.nodes.map(({ url }) => client.clone(url))
    onTestFinished(() => {
      for (const each of this.#clients) each.close()
    })
  }

  async call(at: number, tag: string, kind: number): Promise<void> {
    const client = this.#at(at)
    const asks = kind === 0
    const call = asks
      ? client.toolCall('elicit', { message: tag })
      : client.toolCall('slow', { tag, steps: 8, ms: kind === 1 ? 5 : 40 })
    const heard: string[] = []
    let stream = await admitted(() => client.stream(call))
    for (let turn = 1; ; turn += 1) {
      if (asks) await this.#answer(stream, call, at + turn, tag)
      await stream.over(PATIENCE)
      heard.push(...stream.logs)
      const answer = stream.messages.find(({ id, method }) => id === call.id && method === undefined)
      if (answer) {
        expect(answer.error, tag).toBeUndefined()
        expect(textOf(answer.result)).toContain(tag)
        break
      }
      expect(stream.lastEventId, `${tag} can be resumed`).toBeDefined()
      const last = stream.lastEventId
      stream = await admitted(() => this.#at(at + turn).listen(last))
    }
    if (!asks) expect(heard, tag).toEqual(counting(tag, 8))
    this.calls += 1
  }

  async #answer(stream: RawStream, call: Message, at: number, tag: string): Promise<void> {
    const done = ({ id, method }: Message) => id === call.id || method === 'elicitation/create'
    const message = await Promise.race([
      stream.next('the question', done, PATIENCE),
      stream.over(PATIENCE).then(() => undefined),
    ])
    if (message?.method === undefined) return
    const content = { name: tag }
    await admitted(async () => {
      const response = await this.#at(at).answer(message, { action: 'accept', content })
      if (response.status !== 202)
        throw new Error(`No answer but ${response.status} ${await response.text()}`)
    })
  }

  #at(index: number): RawClient {
    return this.#clients[index % this.#clients.length]!
  }
}

/** A node that cannot reach its store says so with a 503, has done nothing, and is asked again. */
async function admitted<T>(ask: () => Promise<T>): Promise<T> {
  const deadline = performance.now() + PATIENCE
  for (;;) {
    try {
      return await ask()
    } catch (error) {
      if (!/but 503/.test(`${error}`) || performance.now() > deadline) throw error
      await sleep(50)
    }
  }
}
