import { connect, type Socket } from 'node:net'
import { monotonicNow } from '../../clock.ts'
import { MESSAGE_LIMIT } from '../port.ts'
import { frameHead } from './sqlite-frames.ts'
import type { SqliteNode } from './sqlite-nodes.ts'
import { ended, hello } from './sqlite-sockets.ts'

/** How long a node may take to answer the first words, in ms. One that is stopped, or busy, does not. */
const ANSWER_WITHIN = 500
/** A node that could not be reached is tried again after this, doubled each time up to the most, in ms. */
const RETRY = 1_000
const MAX_RETRY = 30_000
/** What each message that waits costs beyond its bytes. */
const OVERHEAD = 256
/** How long closing waits for what was said last, in ms. */
const LAST_WORDS = 500

/** The connections to other nodes' sockets, one each, made when there is first something to say. */
export class SqlitePeers {
  readonly #peers = new Map<string, Peer>()
  /** False: it was not said, for there is no way to the node's socket. */
  async say(node: SqliteNode, message: Uint8Array): Promise<boolean> {
    const { id, socket } = node
    let peer = this.#peers.get(id)
    if (peer && peer.path !== socket) this.forget(id)
    if (socket === null) return false
    if (peer?.path !== socket) {
      peer = new Peer(id, socket)
      this.#peers.set(id, peer)
    }
    return peer.say(message)
  }

  isConnected(nodeId: string): boolean {
    return this.#peers.get(nodeId)?.isConnected ?? false
  }

  forget(nodeId: string): void {
    void this.#peers.get(nodeId)?.close()
    this.#peers.delete(nodeId)
  }

  async close(): Promise<void> {
    const peers = [...this.#peers.values()]
    this.#peers.clear()
    await Promise.all(peers.map((peer) => peer.close()))
  }
}

class Peer {
  readonly path: string
  readonly #nodeId: string
  #connecting: Promise<Socket | undefined> | undefined
  #socket: Socket | undefined
  #failures = 0
  #retryAt = 0
  /** Bytes that wait for the connection or in it. */
  #waiting = 0
  #corked = false

  constructor(nodeId: string, path: string) {
    this.#nodeId = nodeId
    this.path = path
  }

  get isConnected(): boolean {
    return this.#socket !== undefined
  }

  async say(message: Uint8Array): Promise<boolean> {
    const size = message.length + OVERHEAD
    // The node does not read. To keep more for it would only cost memory: whoever waits for an answer says it again.
    if (this.#waiting > 0 && this.#waiting + size > MESSAGE_LIMIT) return true
    this.#waiting += size
    const socket = this.#socket ?? (await this.#connect())
    if (!socket) {
      this.#waiting -= size
      return false
    }
    this.#cork(socket)
    socket.write(frameHead(message.length))
    socket.write(message, () => {
      this.#waiting -= size
    })
    return true
  }

  /** Resolves when what was said has left, or after a moment. */
  close(): Promise<void> {
    const socket = this.#socket
    this.#socket = undefined
    this.#retryAt = Number.POSITIVE_INFINITY
    return socket ? ended(socket, LAST_WORDS) : Promise.resolve()
  }

  /** All that is said in one turn of the event loop is one write. */
  #cork(socket: Socket): void {
    if (this.#corked) return
    this.#corked = true
    socket.cork()
    process.nextTick(() => {
      this.#corked = false
      socket.uncork()
    })
  }

  #connect(): Promise<Socket | undefined> {
    if (monotonicNow() < this.#retryAt) return Promise.resolve(undefined)
    this.#connecting ??= call(this.path, this.#nodeId).then((socket) => {
      this.#connecting = undefined
      // Closed meanwhile.
      if (this.#retryAt === Number.POSITIVE_INFINITY) {
        socket?.destroy()
        return undefined
      }
      if (!socket) {
        this.#retryAt = monotonicNow() + Math.min(RETRY * 2 ** this.#failures, MAX_RETRY)
        this.#failures += 1
        return undefined
      }
      this.#failures = 0
      this.#socket = socket
      const lost = () => {
        if (this.#socket === socket) this.#socket = undefined
      }
      // At the end of what the node says, and not only when it is closed: the node waits for that with its farewell.
      socket.once('end', lost).once('close', lost)
      return socket
    })
    return this.#connecting
  }
}

/** A connection on which the node has answered; undefined: nobody there, somebody else, or no answer in time. */
function call(path: string, nodeId: string): Promise<Socket | undefined> {
  return new Promise((resolve) => {
    const words = hello(nodeId)
    const socket = connect(path)
    let heard = Buffer.alloc(0)
    const timer = setTimeout(() => socket.destroy(), ANSWER_WITHIN)
    const onData = (chunk: Buffer) => {
      heard = Buffer.concat([heard, chunk])
      if (heard.length < words.length) return
      if (!heard.equals(words)) return socket.destroy()
      clearTimeout(timer)
      // Nothing more is said on this side; reading goes on, so that the end is noticed.
      socket.off('data', onData).resume().unref()
      resolve(socket)
    }
    socket.on('data', onData).on('error', () => {})
    socket.once('connect', () => socket.write(words))
    socket.once('close', () => {
      clearTimeout(timer)
      resolve(undefined)
    })
  })
}
