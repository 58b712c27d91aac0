import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createClient, createCluster } from 'redis'
import { expect, inject, onTestFinished, test } from 'vitest'
import { RedisEventStore, type RedisEventStoreOptions } from '../../src/store/redis/redis-store.ts'
import { makeCertificate } from '../support/services/certificate.ts'
import { freePort } from '../support/services/free-port.ts'
import { startRedis } from '../support/services/redis.ts'

const url = inject('redisUrl')

test('a client that is given is neither used nor closed, and none of the store’s own stays behind', async () => {
  const client = createClient({ url, name: 'theirs' })
  const store = new RedisEventStore({ client, keyPrefix: `node-redis:${randomUUID()}:` })
  await store.bus.subscribe('c', () => {})
  expect(client.isOpen).toBe(false)
  await client.connect()
  const connections = async () => (await client.sendCommand(['CLIENT', 'LIST'])) as unknown as string
  const ours = async () => (await connections()).split('\n').filter((line) => line.includes('name=theirs'))
  expect(await ours()).toHaveLength(3)
  await store.close()
  await expect.poll(ours).toHaveLength(1)
  expect(await client.ping()).toBe('PONG')
  client.destroy()
})

test('a wrong password is told, and not shown', async () => {
  const server = await startRedis({ config: ['--requirepass', 'right'] })
  onTestFinished(() => server.stop())
  const client = createClient({ url: server.url.replace('//', '//:hunter2@') })
  const store = new RedisEventStore({ client, timeout: 500 })
  onTestFinished(() => store.close())
  const error: Error = await store.ready().catch((reason) => reason)
  expect(error).toMatchObject({ code: 'STORE_UNAVAILABLE', message: expect.stringContaining('WRONGPASS') })
  expect(JSON.stringify([error.message, error.stack, await store.health()])).not.toContain('hunter2')
})

test('over TLS, to the database that the URL names', async () => {
  const certificate = makeCertificate()
  onTestFinished(() => certificate.remove())
  const port = await freePort()
  const files = ['--tls-cert-file', certificate.cert, '--tls-key-file', certificate.key]
  const server = await startRedis({ config: ['--tls-port', `${port}`, ...files, '--tls-auth-clients', 'no'] })
  onTestFinished(() => server.stop())
  const ca = readFileSync(certificate.cert)
  const client = createClient({ url: `rediss://127.0.0.1:${port}/3`, socket: { ca, tls: true } })
  const store = new RedisEventStore({ client })
  onTestFinished(() => store.close())
  const events = [{ streamId: 'a', kind: 'end', payload: '' }] as const
  await store.log.append({ sessionId: 's', events, ttl: 60_000 })
  const plain = createClient({ url: `${server.url}/3` })
  await plain.connect()
  expect(await plain.dbSize()).toBeGreaterThan(0)
  plain.destroy()
})

test('what the store cannot make connections from is refused at once', () => {
  const open = (client: unknown) => () => new RedisEventStore({ client } as RedisEventStoreOptions)
  const refusal = (message: RegExp) =>
    expect.objectContaining({ code: 'INVALID_ARGUMENT', message: expect.stringMatching(message) })
  expect(open(createCluster({ rootNodes: [{ url }] }))).toThrow(
    refusal(/Cluster and Sentinel those of ioredis/),
  )
  expect(open({})).toThrow(refusal(/createClient\(\)/))
  expect(open(null)).toThrow(refusal(/createClient\(\)/))
})
