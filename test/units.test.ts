import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js'
import { expect, onTestFinished, test } from 'vitest'
import {
  MemoryEventStore,
  openStore,
  PostgresEventStore,
  RedisEventStore,
  SqliteEventStore,
  withPersistence,
} from '../src/index.ts'
import type { Logger } from '../src/logger.ts'

/** What a logger was told, and the logger. */
function listen(): { warnings: string[]; logger: Logger } {
  const warnings: string[] = []
  const quiet = () => {}
  return {
    warnings,
    logger: { debug: quiet, info: quiet, error: quiet, warn: (_, text) => void warnings.push(text) },
  }
}

const newServer = () => new McpServer({ name: 'test', version: '1.0.0' })

const WITH = (options: object) => (logger: Logger) =>
  void withPersistence(newServer, new MemoryEventStore(), { ...options, logger })

test.each<[string, (logger: Logger) => void, string]>([
  [
    'ttl',
    WITH({ ttl: 3_600_000 }),
    '"ttl" is in seconds, and 3600000 looks like milliseconds; write ttl: 3600',
  ],
  [
    'idle',
    WITH({ idle: 300_000 }),
    '"idle" is in seconds, and 300000 looks like milliseconds; write idle: 300',
  ],
  [
    'keepAlive',
    WITH({ keepAlive: 15 }),
    '"keepAlive" is in milliseconds, and 15 looks like seconds; write keepAlive: 15000',
  ],
  [
    'retryInterval',
    WITH({ retryInterval: 1 }),
    '"retryInterval" is in milliseconds, and 1 looks like seconds; write retryInterval: 1000',
  ],
  ...[
    ['sqlite', (options: object) => new SqliteEventStore({ path: ':memory:', ...options })],
    ['redis', (options: object) => new RedisEventStore({ url: 'redis://127.0.0.1:1', ...options })],
    [
      'postgres',
      (options: object) => new PostgresEventStore({ url: 'postgres://127.0.0.1:1/x', ...options }),
    ],
    ['a URL', (options: object) => openStore('sqlite::memory:?timeout=5', options)],
  ].map(([name, open]): [string, (logger: Logger) => void, string] => [
    `timeout of ${name}`,
    (logger) =>
      void (open as (options: object) => unknown)({ ...(name !== 'a URL' && { timeout: 5 }), logger }),
    '"timeout" is in milliseconds, and 5 looks like seconds; write timeout: 5000',
  ]),
  [
    'ttl of a store',
    (logger) => void new MemoryEventStore({ ttl: 600_000, logger }),
    '"ttl" is in seconds, and 600000 looks like milliseconds; write ttl: 600',
  ],
])('a value that looks like the other unit is told: %s', (_, make, warning) => {
  const { warnings, logger } = listen()
  make(logger)
  expect(warnings).toEqual([warning])
})

test('the deadline of close(), too', async () => {
  const { warnings, logger } = listen()
  const handler = withPersistence(newServer, 'memory:', { logger })
  await handler.close({ deadline: 30 })
  expect(warnings).toEqual([
    '"deadline" is in milliseconds, and 30 looks like seconds; write deadline: 30000',
  ])
})

test('what may be meant is not remarked on', () => {
  const { warnings, logger } = listen()
  for (const days of [1, 7, 14, 30, 90, 365]) WITH({ ttl: days * 24 * 3600 })(logger)
  for (const idle of [0, 300, 3600, 36_000]) WITH({ idle })(logger)
  WITH({ keepAlive: 0, retryInterval: 0 })(logger)
  WITH({ keepAlive: 1000, retryInterval: 10 })(logger)
  void new SqliteEventStore({ path: ':memory:', timeout: 100, ttl: 59_999, logger })
  expect(warnings).toEqual([])
})

test('await using: a handler and a store are closed at the end of their block', async () => {
  const store = openStore('memory:')
  const handler = withPersistence(newServer, store)
  onTestFinished(() => handler.close())
  await handler[Symbol.asyncDispose]()
  const response = await handler.fetch(new Request('http://localhost/mcp', { method: 'POST', body: '{}' }))
  expect(response.status).toBe(503)
  await store[Symbol.asyncDispose]()
  await expect(store.ready()).rejects.toMatchObject({ code: 'STORE_CLOSED' })
})
