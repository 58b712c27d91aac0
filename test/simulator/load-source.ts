import crypto from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import type { Plugin } from 'esbuild'
import { bundle, evaluate } from '../support/bundle.ts'
import { createPublicKey, diffieHellman, keyPair } from './key-pairs.ts'
import type { Mutant } from './mutants/mutant.ts'
import type * as SourceModule from './source.ts'
import type { Entry, Time } from './time.ts'

export type Source = typeof SourceModule

const ROOT = fileURLToPath(new URL('../../', import.meta.url))

/** What the loaded code takes for its surroundings; the world that runs sets it. */
export interface Surroundings {
  readonly time: Time
  /** The next of the fixed key pairs. */
  keys: number
}

let surroundings: Surroundings | undefined

export function surround(next: Surroundings): void {
  surroundings = next
}

/**
 * The sources as one function, compiled once, with every timer, clock and random number replaced by those of the world
 * that runs at the moment. A mutant is the same with one line changed.
 */
export async function loadSource(mutant?: Mutant): Promise<Source> {
  const text = await bundle(`${ROOT}test/simulator/source.ts`, {
    packages: 'bundle',
    sourcemap: mutant ? false : 'inline',
    define: { 'Math.random': '__random', 'Date.now': '__now', 'performance.now': '__monotonic' },
    plugins: mutant ? [mutate(mutant)] : [],
  })
  return evaluate(text, {
    globals: GLOBALS,
    require: requireInside,
    filename: `${ROOT}test/simulator/source${mutant ? `-${mutant.name}` : ''}.bundle.cjs`,
  }) as Source
}

export function mutate({
  name,
  file,
  replace,
  by,
}: Pick<Mutant, 'name' | 'file' | 'replace' | 'by'>): Plugin {
  return {
    name,
    setup({ onLoad, onEnd }) {
      let applied = false
      onLoad({ filter: /\.ts$/ }, ({ path }) => {
        if (path !== ROOT + file) return undefined
        const text = readFileSync(path, 'utf8')
        if (text.split(replace).length !== 2) {
          throw new Error(
            `Mutant ${name}: its text stands ${text.split(replace).length - 1} times in ${file}.`,
          )
        }
        applied = true
        return { contents: text.replace(replace, () => by), loader: 'ts' }
      })
      onEnd(() => {
        if (!applied) throw new Error(`Mutant ${name}: ${file} is not part of the sources.`)
      })
    },
  }
}

function here(): Surroundings {
  if (!surroundings) throw new Error('No world is running.')
  return surroundings
}

const WALL_CLOCK = 1_700_000_000_000

const GLOBALS = {
  __random: () => here().time.current.random.next(),
  __now: () => {
    const { now, current } = here().time
    return WALL_CLOCK + Math.floor(now * current.rate + current.ahead)
  },
  __monotonic: () => {
    const { now, current } = here().time
    return now * current.rate
  },
  setTimeout: (work: () => void, ms = 0): Entry => {
    const { time } = here()
    return time.after(Math.max(1, ms) / time.current.rate, work, time.current, true)
  },
  setInterval: (work: () => void, ms: number): Interval => new Interval(work, ms),
  setImmediate: (work: () => void): Entry => here().time.after(0, work),
  queueMicrotask: (work: () => void) => void Promise.resolve().then(work),
  clearTimeout: (timer?: Entry) => timer?.cancel(),
  clearInterval: (timer?: Interval) => timer?.cancel(),
  clearImmediate: (timer?: Entry) => timer?.cancel(),
}

class Interval {
  #entry: Entry | undefined

  constructor(work: () => void, ms: number) {
    const { time } = here()
    const process = time.current
    const next = () => {
      this.#entry = time.after(ms / process.rate, turn, process, true)
    }
    const turn = () => {
      next()
      work()
    }
    next()
  }

  cancel(): void {
    this.#entry?.cancel()
  }

  unref(): this {
    return this
  }
}

const random = {
  randomBytes: (count: number) => here().time.current.random.bytes(count),
  randomInt: (least: number, most?: number) =>
    most === undefined
      ? here().time.current.random.between(0, least - 1)
      : here().time.current.random.between(least, most - 1),
  randomUUID: () => {
    const hex = here().time.current.random.bytes(16).toString('hex')
    return hex.replace(/(.{8})(.{4})(.{4})(.{4})(.{12})/, '$1-$2-$3-$4-$5')
  },
  generateKeyPairSync: () => keyPair(here().keys++),
  createPublicKey,
  diffieHellman,
}

const require = createRequire(import.meta.url)
const owned = { ...crypto, ...random }

function requireInside(name: string): unknown {
  return name === 'node:crypto' || name === 'crypto' ? owned : require(name)
}
