import { Writable } from 'node:stream'
import type { Remote } from './app.ts'
import type { ChunkQueue } from './chunk-queue.ts'

/**
 * The far end of a connection that exists in this process only. What is written to it is dropped, for it was taken off
 * before it became bytes; all that it has to do is to hold the writer back, and to look like a socket.
 */
export class LoopSocket extends Writable {
  readonly remoteAddress: string
  readonly remotePort: number
  readonly remoteFamily: string
  readonly encrypted: boolean
  /** As of a `TLSSocket`, where the client's connection is one. */
  readonly authorized: boolean | undefined
  readonly authorizationError: Error | undefined
  readonly getPeerCertificate: ((detailed?: boolean) => object) | undefined
  readonly localAddress = '127.0.0.1'
  readonly localPort = 0
  readonly timeout = 0
  readable = true
  readonly #queue: ChunkQueue
  #full = false

  constructor(remote: Remote | undefined, queue: ChunkQueue) {
    super()
    this.remoteAddress = remote?.address ?? '127.0.0.1'
    this.remotePort = remote?.port ?? 0
    this.remoteFamily = this.remoteAddress.includes(':') ? 'IPv6' : 'IPv4'
    this.encrypted = remote?.encrypted ?? false
    const { certificate } = remote ?? {}
    if (this.encrypted) {
      this.authorized = certificate?.authorized ?? false
      this.authorizationError = certificate?.authorizationError
      this.getPeerCertificate = (detailed) => certificate?.getPeerCertificate(detailed) ?? {}
    }
    this.#queue = queue
  }

  /** Past the stream's own buffer, which would hold what nobody reads. */
  override write(_chunk: unknown, encoding?: unknown, callback?: unknown): boolean {
    const done = typeof encoding === 'function' ? encoding : callback
    if (typeof done === 'function') process.nextTick(done as () => void)
    if (!this.#queue.full) return true
    if (!this.#full) {
      this.#full = true
      this.#queue.whenRoom(() => {
        this.#full = false
        this.emit('drain')
      })
    }
    return false
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.readable = false
    callback(error)
  }

  destroySoon(): void {
    this.destroy()
  }

  setTimeout(): this {
    return this
  }

  setNoDelay(): this {
    return this
  }

  setKeepAlive(): this {
    return this
  }

  ref(): this {
    return this
  }

  unref(): this {
    return this
  }

  address(): { address: string; family: string; port: number } {
    return { address: this.localAddress, family: 'IPv4', port: this.localPort }
  }
}
