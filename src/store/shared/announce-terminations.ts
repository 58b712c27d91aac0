import { type Bus, nodeChannel, type SessionTable } from '../port.ts'

/** What a node hears when somebody else has terminated a session that it holds. */
export interface Terminated {
  readonly terminated: string
}

/**
 * Makes `sessions.terminate` tell the owner, so that the session's open streams end at once wherever they are served.
 * Without the word they would end with the owner's next append, which is refused.
 */
export function announceTerminations(sessions: SessionTable, bus: Bus): void {
  const terminate = sessions.terminate.bind(sessions)
  sessions.terminate = async (id) => {
    const owner = (await sessions.get(id))?.owner
    const terminated = await terminate(id)
    if (terminated && owner) {
      const text = JSON.stringify({ terminated: id } satisfies Terminated)
      // The tombstone stands whether or not the word gets through.
      await bus.publish(nodeChannel(owner), text).catch(() => {})
    }
    return terminated
  }
}
