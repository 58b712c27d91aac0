import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { appShape } from '../support/apps/app-shapes.ts'
import { postgresSpace } from '../support/backends.ts'
import { RawClient } from '../support/clients/raw-client.ts'
import { type Cluster, serveCluster } from '../support/cluster.ts'
import { type PostgresService, startPostgres } from '../support/services/postgres.ts'
import { type RedisService, startRedis } from '../support/services/redis.ts'
import { until, within } from '../support/wait.ts'

interface Away {
  readonly url: string
  /** Away for so many ms, and back. */
  blink(ms: number): Promise<void>
  stop(): Promise<void>
}

const stores: Record<string, () => Promise<Away>> = {
  async 'a Redis that does not answer'() {
    const redis = await startRedis()
    const blink = async (ms: number) => {
      process.kill(redis.pid, 'SIGSTOP')
      await sleep(ms)
      process.kill(redis.pid, 'SIGCONT')
    }
    return { url: redis.url, blink, stop: () => redis.stop() }
  },
  async 'a Redis that is killed and started again'() {
    const redis = await startRedis({ persistence: 'always' })
    return { url: redis.url, blink: restarted(redis), stop: () => redis.stop() }
  },
  async 'a PostgreSQL that is killed and started again'() {
    const postgres = await startPostgres({ own: true, fsync: true })
    const { url } = await postgresSpace(postgres.url, 'away')
    return { url, blink: restarted(postgres), stop: () => postgres.stop() }
  },
}

function restarted(service: RedisService | PostgresService) {
  return async (ms: number) => {
    await service.kill()
    await sleep(ms)
    await service.restart()
  }
}

const quiet = { debug() {}, info() {}, warn() {}, error() {} }
const counting = (tag: string, count: number) =>
  Array.from({ length: count }, (_, index) => `${tag}:${index + 1}`)

describe.each(Object.entries(stores))('three nodes on %s', (_, start) => {
  let away: Away
  let cluster: Cluster
  beforeAll(async () => {
    away = await start()
    cluster = await serveCluster(appShape('factory'), {
      store: away.url,
      options: { retryInterval: 20, lease: 3, logger: quiet },
    })
  })
  afterAll(async () => {
    await cluster?.close()
    await away?.stop()
  })

  it('the owner answers all the while, and what went through the store comes when it is back', async () => {
    const owner = await RawClient.open(cluster.nodes[0]!.url)
    const [edge, other] = [owner.clone(cluster.nodes[1]!.url), owner.clone(cluster.nodes[2]!.url)]
    onTestFinished(() => {
      for (const client of [owner, edge, other]) client.close()
    })
    const listener = await other.listen()
    const far = edge.toolCall('slow', { tag: 'far', steps: 120, ms: 50 })
    const near = owner.toolCall('slow', { tag: 'near', steps: 120, ms: 50 })
    const [forwarded, local] = await Promise.all([edge.stream(far), owner.stream(near)])
    await owner.tool('later', { tag: 'aside', count: 30, ms: 50 })
    await Promise.all([forwarded.count(5), local.count(5)])

    // Longer than the lease: all leases run out, and none of the living loses a session for that.
    const back = away.blink(4500)
    const asked = performance.now()
    expect(await owner.tool('counter')).toBe('1')
    const answeredIn = performance.now() - asked
    await within('the store', back, 30_000)

    const result = await forwarded.next('the forwarded answer', ({ id }) => id === far.id, 20_000)
    expect(JSON.stringify(result.result)).toContain('far done after 120')
    await local.next('the answer at the owner', ({ id }) => id === near.id, 20_000)
    expect(forwarded.logs).toEqual(counting('far', 120))
    expect(local.logs).toEqual(counting('near', 120))
    await until('the notifications', () => listener.logs.length >= 30, 20_000)
    expect(listener.logs).toEqual(counting('aside', 30))
    expect(await edge.tool('counter')).toBe('2')
    expect(await other.tool('counter')).toBe('3')
    expect(answeredIn).toBeLessThan(8000)
  })
})
