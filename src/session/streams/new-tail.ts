import type { StreamRef } from './stream.ts'
import type { Tail } from './tail.ts'

/** Makes the stream of a client of this process. `onClose`: it is over, whoever ended it. */
export type NewTail = (sessionId: string, stream: StreamRef, onClose: () => void) => Tail
