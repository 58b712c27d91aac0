/** Comes before every event of the standalone stream, by the name that the SDK gives it. */
export const FIRST_UNREAD = '0@_GET_stream'

/**
 * The event store of a built-in transport. The transport offers `closeSSEStream` to tools only where it has one; the
 * engine reads every message at once and keeps it in the log, so that here it can be forgotten when it has been read.
 */
export class HandoffStore {
  readonly #unread = new Map<number, { streamId: string; message: unknown }>()
  #last = 0

  async storeEvent(streamId: string, message: unknown): Promise<string> {
    this.#last += 1
    this.#unread.set(this.#last, { streamId, message })
    return `${this.#last}@${streamId}`
  }

  async replayEventsAfter(
    lastEventId: string,
    { send }: { send: (eventId: string, message: never) => Promise<void> },
  ): Promise<string> {
    const at = lastEventId.indexOf('@')
    const after = Number(lastEventId.slice(0, at))
    const streamId = lastEventId.slice(at + 1)
    for (const [id, event] of this.#unread) {
      if (id > after && event.streamId === streamId) await send(`${id}@${streamId}`, event.message as never)
    }
    return streamId
  }

  /** `chunk` is one SSE frame of the transport, and the engine has it. */
  read(chunk: Uint8Array): void {
    const id = /^id: (\d+)@/m.exec(
      Buffer.from(chunk.buffer, chunk.byteOffset, Math.min(chunk.byteLength, 64)).toString(),
    )
    if (id) this.#unread.delete(Number(id[1]))
  }
}
