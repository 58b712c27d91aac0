const HIGH_WATER = 64 * 1024

/** Chunks on their way from an app that writes to an engine that reads, with the writer held back when it runs ahead. */
export class ChunkQueue implements AsyncIterable<Uint8Array> {
  readonly #chunks: Uint8Array[] = []
  #size = 0
  #ended = false
  #error: unknown
  #wakeReader: (() => void) | undefined
  #wakeWriter: (() => void) | undefined

  push(chunk: Uint8Array): void {
    if (this.#ended || chunk.byteLength === 0) return
    this.#chunks.push(chunk)
    this.#size += chunk.byteLength
    this.#wakeReader?.()
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
    this.#wakeReader?.()
    this.#release()
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    for (;;) {
      const chunk = this.#chunks.shift()
      if (chunk !== undefined) {
        this.#size -= chunk.byteLength
        if (this.#size < HIGH_WATER) this.#release()
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

  #release(): void {
    const wake = this.#wakeWriter
    this.#wakeWriter = undefined
    wake?.()
  }
}
