import { randomInt } from 'node:crypto'

/** Values of the random part: 24 bits. The counter above it has 29, so that all of it is an exact integer. */
const RANDOM = 2 ** 24

/**
 * A generation beyond `current`: a counter in its upper part, a random number in its lower one. Two claims of the same
 * generation get different ones, though the store has lost the first of them and its master's clock runs apart.
 */
export function nextGeneration(current: number): number {
  return (Math.floor(current / RANDOM) + 1) * RANDOM + randomInt(RANDOM)
}
