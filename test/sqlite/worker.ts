import cluster from 'node:cluster'
import { once } from 'node:events'
import { writeSync } from 'node:fs'
import { nodeChannel } from '../../src/store/port.ts'
import { SqliteEventStore } from '../../src/store/sqlite/sqlite-store.ts'

const [task, path, name = '', option = ''] = process.argv.slice(2) as [string, string, string?, string?]

/** Written before the next statement runs: a kill cannot swallow it. Waits while the reader is behind and the pipe full. */
function say(text: string): void {
  let rest = Buffer.from(`${text}\n`)
  while (rest.length > 0) {
    try {
      rest = rest.subarray(writeSync(1, rest))
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1)
    }
  }
}
const told = () => once(process.stdin.resume(), 'data')

const tasks: Record<string, () => Promise<void>> = {
  /** Appends to three sessions until it is killed, and says what was acknowledged. */
  async write() {
    const store = new SqliteEventStore({ path, durability: option === 'full' ? 'full' : 'normal' })
    for (let i = 0; ; i++) {
      const calls = Array.from({ length: 1 + (i % 5) }, async (_, k) => {
        const payload = `${name}:${i}:${k}`
        const sessionId = `s${k % 3}`
        const events = [{ streamId: 'a', kind: 'message', payload }] as const
        const { positions } = await store.log.append({ sessionId, events, ttl: 3_600_000, limit: 400 })
        say(`ack ${sessionId} ${positions[0]} ${payload}`)
      })
      await Promise.all(calls)
    }
  },

  /** Opens when told, so that many open at once. */
  async open() {
    const store = new SqliteEventStore(path)
    say('ready')
    await told()
    await store.forSession('s').storeEvent('a', { jsonrpc: '2.0', method: name })
    await store.sessions.get('nobody')
    await store.close()
  },

  /** Appends `option` events to one session, a few at a time. */
  async append() {
    const store = new SqliteEventStore(path)
    await store.ready()
    say('ready')
    await told()
    for (let i = 0; i < Number(option); i += 5) {
      await Promise.all(
        Array.from({ length: 5 }, (_, k) =>
          store.log.append({
            sessionId: 's',
            events: [{ streamId: 'a', kind: 'message', payload: `${name}:${i + k}` }],
            ttl: 3_600_000,
          }),
        ),
      )
    }
    await store.close()
  },

  /** Publishes the time, `option` times. */
  async publish() {
    const store = new SqliteEventStore(path)
    await store.ready()
    for (let i = 0; i < Number(option); i++) {
      await store.bus.publish('times', String(performance.timeOrigin + performance.now()))
      await new Promise((resolve) => setTimeout(resolve, 3 + (i % 7)))
    }
    await store.close()
  },

  /** A node that sends whatever it hears back to the node that the message begins with. */
  async echo() {
    const store = new SqliteEventStore(path)
    await store.bus.receive(name, (message) => {
      if (message === undefined) return say('missed')
      const to = Buffer.from(message.subarray(0, 16)).toString().trim()
      void store.bus.send(to, message).catch(({ message }) => say(`failed ${message}`))
    })
    await store.nodes.register({ id: name, publicKey: 'key', profile: '' }, 3_600_000)
    say('ready')
    await told()
    await store.close()
  },

  /** `option` workers of node:cluster open one file at once, and each says something to each. */
  async cluster() {
    const ids = Array.from({ length: Number(option) }, (_, i) => `worker-${i}`)
    if (cluster.isPrimary) {
      const workers = ids.map((id) => cluster.fork({ WORKER: id }))
      const codes = await Promise.all(workers.map(async (worker) => (await once(worker, 'exit'))[0]))
      say(`ended ${codes.join()}`)
      return
    }
    const self = process.env.WORKER!
    const store = new SqliteEventStore(path)
    const heard = new Set<string>()
    await store.bus.receive(self, (message) => message && heard.add(Buffer.from(message).toString()))
    await store.nodes.register({ id: self, publicKey: 'key', profile: '' }, 3_600_000)
    const unheard = new Set(ids)
    for (let round = 0; round < 1_000 && (unheard.size > 0 || heard.size < ids.length); round++) {
      for (const id of unheard) if (await store.bus.send(id, Buffer.from(self))) unheard.delete(id)
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
    say(`${self} heard ${heard.size}`)
    // Who leaves early would not be there for the others.
    await new Promise((resolve) => setTimeout(resolve, 500))
    await store.close()
  },

  /** Registers a node with a long lease, owns a session, and stays. */
  async node() {
    const store = new SqliteEventStore(path)
    await store.bus.subscribe(nodeChannel(name), () => {})
    await store.nodes.register({ id: name, publicKey: 'key', profile: '' }, 3_600_000)
    const state = { initialize: '{}', protocolVersion: '2025-11-25' }
    await store.sessions.create({
      id: `session of ${name}`,
      owner: name,
      principal: null,
      state,
      ttl: 3_600_000,
    })
    say('ready')
    await told()
  },
}

await tasks[task]!()
process.exit(0)
