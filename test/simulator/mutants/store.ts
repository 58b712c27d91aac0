import type { Mutant } from './mutant.ts'

const LOG = 'src/store/memory/memory-log.ts'
const SESSIONS = 'src/store/memory/memory-sessions.ts'

export const STORE: readonly Mutant[] = [
  {
    name: 'an append of a generation that is over is taken',
    file: LOG,
    replace: 'if (log.generation !== generation) throw fenced(sessionId, generation, log.generation)',
    by: '',
    with: ['pause-long', 'tool-chatters'],
    seeds: 60,
  },
  {
    name: 'a position is given out twice',
    file: LOG,
    replace: 'log.last += 1',
    by: 'log.last += log.last % 3 === 2 ? 0 : 1',
    with: [],
    seeds: 5,
  },
  {
    name: 'a claim looks at no generation',
    file: SESSIONS,
    replace: 'if (!row || row.generation !== generation) return undefined\n    if (row.owner',
    by: 'if (!row) return undefined\n    if (row.owner',
    with: ['kill', 'store-out-of-order', 'idle-0'],
    seeds: 100,
  },
  {
    name: 'a claim of the same owner keeps the generation',
    file: SESSIONS,
    replace: 'if (!keep) {',
    by: 'if (!keep && generation === 0) {',
    with: ['kill'],
    seeds: 20,
  },
  {
    name: 'a claim does not say what is open',
    file: SESSIONS,
    replace: 'open: this.#log.open(id)',
    by: 'open: []',
    with: ['kill'],
    seeds: 40,
  },
]
