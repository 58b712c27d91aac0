/** Versions that somebody understands: from the least to the greatest. */
export type Versions = readonly [least: number, most: number]

/** Of the messages between nodes. Whoever sends knows who receives, so the greatest that both speak is used. */
export const MESSAGES: Versions = [1, 1]

/**
 * Of what lies in the store: one number for a session's state with all that belongs to it, and for a task's value. Whoever
 * writes does not know who will read, a process of the release before perhaps. So a release writes what the one before it
 * reads, and a new format is written one release later than it is read.
 */
export const FORMATS: { readonly reads: Versions; readonly writes: number } = { reads: [1, 1], writes: 1 }

/** What a node says of itself in its record. */
export interface Profile {
  readonly messages: Versions
  /** Of those that it reads. */
  readonly formats: Versions
}

export const PROFILE: Profile = { messages: MESSAGES, formats: FORMATS.reads }

/** No version is 0: who says nothing, understands nothing. */
const NONE: Versions = [0, 0]

export function readProfile(text: string): Profile {
  try {
    const { messages, formats } = JSON.parse(text) as Record<keyof Profile, unknown>
    return { messages: toVersions(messages), formats: toVersions(formats) }
  } catch {
    return { messages: NONE, formats: NONE }
  }
}

function toVersions(value: unknown): Versions {
  const [least, most] = Array.isArray(value) ? value : NONE
  return Number.isInteger(least) && Number.isInteger(most) ? [least, most] : NONE
}

export function isIn([least, most]: Versions, version: number): boolean {
  return version >= least && version <= most
}

/** The greatest version that both understand; undefined when there is none. */
export function commonVersion(ours: Versions, theirs: Versions): number | undefined {
  const version = Math.min(ours[1], theirs[1])
  return isIn(ours, version) && isIn(theirs, version) ? version : undefined
}

/** What stands at the same place in whatever is stored as JSON, in every format. */
export interface Formatted {
  /** Left out: 1. */
  readonly format?: number
}

export function formatOf({ format = 1 }: Formatted): number {
  return format
}

/** Can this release read it? */
export function isReadable(stored: Formatted): boolean {
  return isIn(FORMATS.reads, formatOf(stored))
}
