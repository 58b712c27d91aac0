/**
 * A request that the app may have been told of. `recorded`: then the log knows of it, and its stream is what is left to be
 * followed. `unrecorded`: it may have been made all the same.
 */
export type Made = 'recorded' | 'unrecorded'

/** Thrown when a session leaves this process in the middle of a request: somebody else owns it, or will. */
export class SessionLeft extends Error {
  /** What may have become of the request; undefined: the app was not told of it. */
  readonly made: Made | undefined

  constructor(made?: Made) {
    super('The session has left this process.')
    this.made = made
  }
}
