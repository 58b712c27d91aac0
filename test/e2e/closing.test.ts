import { once } from 'node:events'
import { Agent, type IncomingMessage, request } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import { expect, it } from 'vitest'
import { appShape } from '../support/apps/app-shapes.ts'
import { serveWrapped } from '../support/serve.ts'

const COUNT = 30

/** Another thread's clients: the system completes their connections even if nobody accepts them, as this one is busy. */
const clients = `
const { connect } = require('node:net')
const { parentPort, workerData: { port, connected, silent } } = require('node:worker_threads')
const body = '{"jsonrpc":"2.0","id":1,"method":"ping"}'
const head = ['POST /mcp HTTP/1.1', 'host: 127.0.0.1', 'content-type: application/json', 'content-length: ' + body.length]
for (let i = 0; i < ${COUNT}; i += 1) {
  const socket = connect(port, '127.0.0.1', () => {
    setTimeout(() => socket.write(head.join('\\r\\n') + '\\r\\n\\r\\n' + body), silent)
    Atomics.add(connected, 0, 1)
    Atomics.notify(connected, 0)
  })
  socket.setTimeout(10_000, () => socket.destroy(new Error('no answer in time')))
  socket.on('error', (error) => parentPort.postMessage(error.message))
  socket.once('data', (data) => parentPort.postMessage(data.toString().split('\\r\\n', 1)[0]))
}`

/** Closes a server that `COUNT` clients have connected to, who speak after `silent` ms; resolves with what they get. */
async function closeWith(silent: number): Promise<string[]> {
  const { origin, handler, close } = await serveWrapped(appShape('factory'))
  const connected = new Int32Array(new SharedArrayBuffer(4))
  const workerData = { port: Number(new URL(origin).port), connected, silent }
  const worker = new Worker(clients, { eval: true, workerData })
  const answers: string[] = []
  worker.on('message', (answer: string) => answers.push(answer))
  const over = once(worker, 'exit')
  await once(worker, 'online')
  for (let count = 0; count < COUNT; count = Atomics.load(connected, 0)) {
    expect(Atomics.wait(connected, 0, count, 5000)).not.toBe('timed-out')
  }
  await handler.close({ deadline: 5000 })
  await over
  await close()
  return answers
}

const answered = Array.from({ length: COUNT }, () => 'HTTP/1.1 400 Bad Request')

it('whoever was connected when close() was called is answered, accepted or not', async () => {
  expect(await closeWith(0)).toEqual(answered)
})

it('whoever has connected and not spoken yet when the server stops listening is answered', async () => {
  expect(await closeWith(300)).toEqual(answered)
})

it('a connection that lies in a pool while the server drains is good for one more request', async () => {
  const { origin, handler, close } = await serveWrapped(appShape('factory'))
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  const ping = async () => {
    const ask = request(`${origin}/mcp`, { method: 'POST', agent }).end('{}')
    const [answer] = (await once(ask, 'response')) as [IncomingMessage]
    answer.resume()
    await once(answer, 'end')
    return { reused: ask.reusedSocket, status: answer.statusCode, connection: answer.headers.connection }
  }
  expect(await ping()).toEqual({ reused: false, status: 400, connection: 'keep-alive' })
  const closed = handler.close({ deadline: 5000 })
  await sleep(300)
  expect(await ping()).toEqual({ reused: true, status: 400, connection: 'close' })
  await closed
  await close()
})
