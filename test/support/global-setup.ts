import type { TestProject } from 'vitest/node'
import { bundleHosts } from './hosts/bundle.ts'
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

/**
 * Finds or starts, once per run and all at the same time, the servers that tests share. Tests that stop, kill or
 * configure a server start their own.
 */
export default async function setup({ provide }: TestProject): Promise<() => Promise<void>> {
  const started: Service[] = []
  const url = async (variable: string, start: () => Promise<Service>): Promise<string> => {
    const given = process.env[variable]
    if (given) return given
    const service = await start()
    started.push(service)
    return service.url
  }
  const stop = async () => void (await Promise.all(started.map((service) => service.stop())))
  const results = await Promise.allSettled([
    bundleHosts(),
    url('MCP_PERSIST_TEST_REDIS_URL', () => startRedis()).then((value) => provide('redisUrl', value)),
    url('MCP_PERSIST_TEST_REDIS_CLUSTER_URL', () => startRedisCluster()).then((value) =>
      provide('redisClusterUrl', value),
    ),
    url('MCP_PERSIST_TEST_POSTGRES_URL', () => startPostgres()).then((value) =>
      provide('postgresUrl', value),
    ),
  ])
  const failed = results.find((result) => result.status === 'rejected')
  if (failed) {
    await stop()
    throw failed.reason
  }
  return stop
}
