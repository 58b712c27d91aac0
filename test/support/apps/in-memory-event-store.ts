/** What an app without persistence uses: the SDK's `EventStore`, one for each session, in this process's memory. */
export class InMemoryEventStore {
  readonly #events: { id: string; streamId: string; message: unknown }[] = []

  async storeEvent(streamId: string, message: unknown): Promise<string> {
    const id = String(this.#events.length + 1)
    this.#events.push({ id, streamId, message })
    return id
  }

  async getStreamIdForEventId(eventId: string): Promise<string | undefined> {
    return this.#events.find(({ id }) => id === eventId)?.streamId
  }

  async replayEventsAfter<Message>(
    lastEventId: string,
    { send }: { send: (eventId: string, message: Message) => Promise<void> },
  ): Promise<string> {
    const index = this.#events.findIndex(({ id }) => id === lastEventId)
    const last = this.#events[index]
    if (!last) throw new Error(`Unknown event id ${lastEventId}`)
    for (const { id, streamId, message } of this.#events.slice(index + 1)) {
      const isPriming = Object.keys(message as object).length === 0
      if (streamId === last.streamId && !isPriming) await send(id, message as Message)
    }
    return last.streamId
  }
}
