export interface RecordedEvent {
  readonly id: string
  readonly data: string
}

/** What a client of the old release saw. */
export interface Recording {
  readonly session: string
  readonly call: readonly RecordedEvent[]
  readonly standalone: readonly RecordedEvent[]
}

/** A key of Redis; strings and list entries in base64. */
export interface RecordedKey {
  readonly key: string
  readonly string?: string
  readonly list?: readonly string[]
  /** Member, score, member, score … */
  readonly zset?: readonly string[]
  readonly set?: readonly string[]
}
