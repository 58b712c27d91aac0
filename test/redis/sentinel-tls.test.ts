import assert from 'node:assert/strict'
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { createServer, type Socket } from 'node:net'
import { onTestFinished, test } from 'vitest'
import { RedisEventStore } from '../../src/store/redis/redis-store.ts'
import { program } from '../support/programs.ts'
import { type Certificate, makeCertificate } from '../support/services/certificate.ts'
import { startRedisSentinel } from '../support/services/redis.ts'
import { until } from '../support/wait.ts'

test('rediss+sentinel: a sentinel gets nothing in the clear, least of all a password', async () => {
  const heard: Buffer[] = []
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => {})
    socket.on('data', (bytes) => heard.push(bytes))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  const store = new RedisEventStore({
    url: `rediss+sentinel://user:DATA-SECRET@127.0.0.1:${port}/mymaster?sentinelPassword=SENTINEL-SECRET`,
    timeout: 500,
  })
  await assert.rejects(store.ready())
  await store.close()
  for (const socket of sockets) socket.destroy()
  server.close()
  const all = Buffer.concat(heard)
  assert.ok(all.length > 0, 'it was spoken to')
  assert.equal(all[0], 0x16, 'with the greeting of TLS')
  assert.doesNotMatch(all.toString('latin1'), /SECRET|auth|sentinel/i)
})

/** What a process says that trusts this authority, and uses a store by this URL. */
async function used(url: string, cert: string): Promise<string> {
  const env = { ...process.env, NODE_EXTRA_CA_CERTS: cert }
  const child = fork(program('redis/using.ts'), [url], { env })
  const late = setTimeout(() => child.kill('SIGKILL'), 20_000)
  const [said] = await once(child, 'message')
  await once(child, 'exit')
  clearTimeout(late)
  return said as string
}

test('rediss+sentinel: sentinel and master are reached by TLS, and the names in their certificates are looked at', async () => {
  const [right, foreign] = [makeCertificate(), makeCertificate('IP:127.0.0.2')]
  const trusted = `${right.cert}.and-foreign`
  writeFileSync(trusted, readFileSync(right.cert, 'utf8') + readFileSync(foreign.cert, 'utf8'))
  onTestFinished(() => {
    right.remove()
    foreign.remove()
  })
  const secured = async (tls: { sentinel: Certificate; master: Certificate }) => {
    const service = await startRedisSentinel({ tls })
    onTestFinished(() => service.stop())
    return service.url
  }
  const url = await secured({ sentinel: right, master: right })
  assert.match(url, /^rediss\+sentinel:/)
  assert.equal(await used(url, trusted), 'stored and heard')
  // What went wrong with a sentinel, the driver keeps to itself.
  assert.match(await used(url, foreign.cert), /STORE_UNAVAILABLE/, 'an authority that is not trusted')
  const sentinel = await used(await secured({ sentinel: foreign, master: right }), trusted)
  assert.match(sentinel, /STORE_UNAVAILABLE.*[Aa]ll sentinels are unreachable/)
  const other = await secured({ sentinel: right, master: foreign })
  // The last thing that went wrong is told: on a busy machine that may be a sentinel that was slow.
  await until(
    'the word about its name',
    async () => /STORE_UNAVAILABLE.*altnames/.test(await used(other, trusted)),
    60_000,
  )
}, 90_000)
