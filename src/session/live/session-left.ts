/** Thrown when a session leaves this process in the middle of a request: somebody else owns it, or will. */
export class SessionLeft extends Error {
  /** Was the app told of the request? Then the log knows of it, and its stream is what is left to be followed. */
  readonly mayHaveRun: boolean

  constructor(mayHaveRun: boolean) {
    super('The session has left this process.')
    this.mayHaveRun = mayHaveRun
  }
}
