import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { expect, it } from 'vitest'
import { appShape } from '../support/apps/app-shapes.ts'
import { serveWrapped } from '../support/serve.ts'

const COUNT = 30

/** Connects while this thread does nothing: the system completes connections that nobody has accepted yet. */
const clients = `
const { connect } = require('node:net')
const { parentPort, workerData: { port, connected } } = require('node:worker_threads')
const body = '{"jsonrpc":"2.0","id":1,"method":"ping"}'
const head = ['POST /mcp HTTP/1.1', 'host: 127.0.0.1', 'content-type: application/json', 'content-length: ' + body.length]
for (let i = 0; i < ${COUNT}; i += 1) {
  const socket = connect(port, '127.0.0.1', () => {
    socket.write(head.join('\\r\\n') + '\\r\\n\\r\\n' + body)
    Atomics.add(connected, 0, 1)
    Atomics.notify(connected, 0)
  })
  socket.setTimeout(10_000, () => socket.destroy(new Error('no answer in time')))
  socket.on('error', (error) => parentPort.postMessage(error.message))
  socket.once('data', (data) => parentPort.postMessage(data.toString().split('\\r\\n', 1)[0]))
}`

it('whoever was connected when close() was called is answered, accepted or not', async () => {
  const { origin, handler, close } = await serveWrapped(appShape('factory'))
  const connected = new Int32Array(new SharedArrayBuffer(4))
  const workerData = { port: Number(new URL(origin).port), connected }
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
  expect(answers).toEqual(Array.from({ length: COUNT }, () => 'HTTP/1.1 400 Bad Request'))
  await close()
})
