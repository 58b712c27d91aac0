import type { AppBody, OnChunk } from './app.ts'

const HIGH_WATER = 64 * 1024

interface Reader {
  readonly onChunk: OnChunk
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}

/** Chunks on their way from an app that writes to an engine that reads, with the writer held back when it runs ahead. */
export class ChunkQueue implements AppBody {
  readonly #chunks: Uint8Array[] = []
  #size = 0
  #ended = false
  #error: unknown
  #reader: Reader | undefined
  /** The reader has not done with the chunk before. */
  #held = false
  #wakeReader: (() => void) | undefined
  #wakeWriter: (() => void) | undefined

  push(chunk: Uint8Array): void {
    if (this.#ended || chunk.byteLength === 0) return
    this.#chunks.push(chunk)
    this.#size += chunk.byteLength
    this.#wake()
  }

  get full(): boolean {
    return this.#size >= HIGH_WATER && !this.#ended
  }

  /** Calls back when there is room: at once, or when the reader has caught up. */
  whenRoom(callback: () => void): void {
    if (this.#size < HIGH_WATER || this.#ended) callback()
    else this.#wakeWriter = callback
  }

  end(error?: unknown): void {
    if (this.#ended) return
    this.#ended = true
    this.#error = error
    this.#wake()
    this.#release()
  }

  /** What the app writes is dealt with before its call returns, unless the reader asks for time. */
  forEach(onChunk: OnChunk): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#reader = { onChunk, resolve, reject }
      this.#deliver(this.#reader)
    })
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    for (;;) {
      const chunk = this.#take()
      if (chunk !== undefined) {
        yield chunk
      } else if (this.#error !== undefined) {
        throw this.#error
      } else if (this.#ended) {
        return
      } else {
        await new Promise<void>((resolve) => {
          this.#wakeReader = resolve
        })
        this.#wakeReader = undefined
      }
    }
  }

  #wake(): void {
    if (this.#reader) this.#deliver(this.#reader)
    else this.#wakeReader?.()
  }

  #deliver(reader: Reader): void {
    while (!this.#held) {
      const chunk = this.#take()
      if (chunk === undefined) {
        if (this.#error !== undefined) reader.reject(this.#error)
        else if (this.#ended) reader.resolve()
        return
      }
      // A reader that writes to the app, as an answer does, is not called again before it has returned.
      this.#held = true
      try {
        const dealt = reader.onChunk(chunk)
        if (dealt) return void this.#goOnAfter(dealt, reader)
      } catch (error) {
        return void reader.reject(error)
      }
      this.#held = false
    }
  }

  #goOnAfter(dealt: Promise<void>, reader: Reader): void {
    dealt.then(() => {
      this.#held = false
      this.#deliver(reader)
    }, reader.reject)
  }

  #take(): Uint8Array | undefined {
    const chunk = this.#chunks.shift()
    if (chunk === undefined) return undefined
    this.#size -= chunk.byteLength
    if (this.#size < HIGH_WATER) this.#release()
    return chunk
  }

  #release(): void {
    const wake = this.#wakeWriter
    this.#wakeWriter = undefined
    wake?.()
  }
}
