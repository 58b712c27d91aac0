import type { TestProject } from 'vitest/node'
import { once } from './once.ts'
import { startPostgres } from './services/postgres.ts'
import { type Service, startRedis, startRedisCluster } from './services/redis.ts'

declare module 'vitest' {
  export interface ProvidedContext {
    /** Shared by the whole run: take a key prefix of your own. */
    redisUrl: string
    redisClusterUrl: string
    /** Shared by the whole run: take a schema of your own. */
    postgresUrl: string
  }
}

const SERVICES = {
  redisUrl: ['MCP_PERSIST_TEST_REDIS_URL', () => startRedis()],
  redisClusterUrl: ['MCP_PERSIST_TEST_REDIS_CLUSTER_URL', () => startRedisCluster()],
  postgresUrl: ['MCP_PERSIST_TEST_POSTGRES_URL', () => startPostgres()],
} as const satisfies Record<string, readonly [variable: string, start: () => Promise<Service>]>

type Name = keyof typeof SERVICES

/**
 * Finds or starts, once per run and all at the same time, the servers that tests share. Tests that stop, kill or
 * configure a server start their own.
 */
export default async function setup({ provide }: TestProject): Promise<() => Promise<void>> {
  const { urls, stop } = await once('services', start)
  for (const [name, url] of urls) provide(name, url)
  return stop
}

async function start(): Promise<{ urls: [Name, string][]; stop: () => Promise<void> }> {
  const started: Service[] = []
  // Every project stops them when it is over, and all projects are over at the same time.
  const stop = () => once('stop', async () => void (await Promise.all(started.map((each) => each.stop()))))
  const results = await Promise.allSettled(
    (Object.keys(SERVICES) as Name[]).map(async (name): Promise<[Name, string]> => {
      const [variable, startService] = SERVICES[name]
      const given = process.env[variable]
      if (given) return [name, given]
      const service = await startService()
      started.push(service)
      return [name, service.url]
    }),
  )
  const failed = results.find((result) => result.status === 'rejected')
  if (failed) {
    await stop()
    throw failed.reason
  }
  return { urls: results.filter((each) => each.status === 'fulfilled').map(({ value }) => value), stop }
}
