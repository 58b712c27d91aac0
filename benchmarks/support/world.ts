import { openStore, type Store } from 'mcp-persist'
import { Ledger, port } from './form.ts'

const HOUR = 3_600_000

export const state = { initialize: '{}', protocolVersion: '2025-11-25' }

/** A store with two nodes at work: one makes sessions and sends, the other, in a store of its own, receives. */
export interface World {
  readonly url: string
  readonly store: Store
  /** Sessions that are appended to, in turn, and what was acknowledged. */
  readonly sessions: readonly string[]
  readonly ledger: Ledger
  /** Sends so many messages, `width` at a time, and waits until each was received. */
  exchange(messages: number, width: number): Promise<void>
  /** A name that this world has not had. */
  fresh(prefix: string): string
  /** Rejects unless all that was acknowledged is there once, in order. */
  check(): Promise<void>
  close(): Promise<void>
}

/** Ms after which a message is lost. */
const PATIENCE = 20_000

export async function startWorld(url: string): Promise<World> {
  const [store, peer] = [openStore(url), openStore(url)]
  const form = port(store, async () => 0, { records: true })
  const ledger = new Ledger(form)
  const sessions = Array.from({ length: 500 }, (_, i) => `live-${i}`)
  let names = 0
  let sent = 0
  const waiting = new Map<number, () => void>()
  await peer.nodes.register({ id: 'peer', publicKey: 'key', profile: '{}' }, HOUR)
  await store.nodes.register({ id: 'bench', publicKey: 'key', profile: '{}' }, HOUR)
  const receiving = await peer.bus.receive('peer', (message) => {
    if (message) waiting.get(Buffer.from(message).readUInt32BE())?.()
  })
  // A node that listens to nothing may be taken for dead.
  const listening = await store.bus.receive('bench', () => {})
  await form.open?.(sessions)
  const exchange = async () => {
    sent += 1
    const [number, message] = [sent, Buffer.alloc(300)]
    message.writeUInt32BE(number)
    await new Promise<void>((resolve, reject) => {
      const late = () => reject(new Error(`message ${number} was not received within ${PATIENCE} ms`))
      const timer = setTimeout(late, PATIENCE)
      waiting.set(number, () => {
        clearTimeout(timer)
        waiting.delete(number)
        resolve()
      })
      store.bus.send('peer', message).then((known) => {
        if (!known) reject(new Error('the receiving node is said to be gone'))
      }, reject)
    })
  }
  return {
    url,
    store,
    sessions,
    ledger,
    async exchange(messages, width) {
      let left = messages
      const worker = async () => {
        while (left-- > 0) await exchange()
      }
      await Promise.all(Array.from({ length: width }, worker))
    },
    fresh(prefix) {
      names += 1
      return `${prefix}-${names}`
    },
    check: () => ledger.check(),
    async close() {
      await Promise.all([receiving.close(), listening.close()])
      await Promise.all([store.close(), peer.close()])
    },
  }
}
