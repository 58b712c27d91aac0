import { generator } from '../support/random.ts'

/** Everything that is left to chance, from one seed: the same on every machine. */
export class Random {
  /** A number from 0 up to, and not including, 1. */
  readonly next: () => number

  constructor(seed: number) {
    this.next = generator(Math.imul(seed, 0x9e3779b1) ^ 0x5bf03635)
  }

  chance(share: number): boolean {
    return this.next() < share
  }

  /** A whole number, both ends included. */
  between(least: number, most: number): number {
    return least + Math.floor(this.next() * (most - least + 1))
  }

  pick<T>(list: readonly T[]): T {
    return list[Math.floor(this.next() * list.length)]!
  }

  bytes(count: number): Buffer {
    const bytes = Buffer.alloc(count)
    for (let i = 0; i < count; i += 1) bytes[i] = this.next() * 256
    return bytes
  }

  /** Another source, so that what is drawn here does not move what is drawn there. */
  fork(): Random {
    return new Random(Math.floor(this.next() * 4294967296))
  }
}
