/** One line of the sources, put wrong: what the simulator must notice. */
export interface Mutant {
  readonly name: string
  readonly file: string
  /** Stands in the file exactly once. */
  readonly replace: string
  readonly by: string
}
