import { MESSAGE_LIMIT } from '../port.ts'

/** Of a frame: the length of its body, big-endian. */
const HEAD = 4

export function frameHead(length: number): Buffer {
  const head = Buffer.allocUnsafe(HEAD)
  head.writeUInt32BE(length)
  return head
}

/** Cuts what a socket reads back into frames. Holds one unfinished frame at the most. */
export class FrameReader {
  readonly #head = Buffer.alloc(HEAD)
  #headBytes = 0
  #body: Buffer | undefined
  #bodyBytes = 0

  /** Is there a frame of which a part has come? */
  get unfinished(): boolean {
    return this.#headBytes > 0
  }

  /** The frames that `chunk` completes. Throws a RangeError when one is longer than a message may be. */
  *read(chunk: Buffer): Generator<Buffer> {
    let at = 0
    for (;;) {
      while (this.#headBytes < HEAD) {
        if (at === chunk.length) return
        this.#head[this.#headBytes++] = chunk[at++]!
      }
      if (!this.#body) {
        const length = this.#head.readUInt32BE()
        if (length > MESSAGE_LIMIT)
          throw new RangeError(`A frame of ${length} bytes is longer than a message.`)
        this.#body = Buffer.allocUnsafe(length)
        this.#bodyBytes = 0
      }
      // A copy: a small message must not keep all that was read with it.
      const copied = chunk.copy(this.#body, this.#bodyBytes, at)
      at += copied
      this.#bodyBytes += copied
      if (this.#bodyBytes < this.#body.length) return
      const frame = this.#body
      this.#body = undefined
      this.#headBytes = 0
      yield frame
    }
  }
}
