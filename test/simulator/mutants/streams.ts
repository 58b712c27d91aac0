import type { Mutant } from './mutant.ts'

const TAIL = 'src/session/streams/tail.ts'
const SESSION_LOG = 'src/session/streams/session-log.ts'
const BACKLOG = 'src/session/streams/backlog.ts'

export const STREAMS: readonly Mutant[] = [
  {
    name: 'any push counts as contiguous',
    file: TAIL,
    replace: 'update.before !== undefined && update.before <= this.#seen',
    by: 'update.before !== Number.NaN',
    with: ['messages-lost', 'tool-chatters'],
    seeds: 100,
  },
  {
    name: 'the last message leaves the response open',
    file: TAIL,
    replace: 'this.#send(messageFrame(payload, this.#id(position, epoch)))\n        this.close()',
    by: 'this.#send(messageFrame(payload, this.#id(position, epoch)))',
    with: [],
    seeds: 5,
  },
  {
    name: 'a tail that is over tells nobody',
    file: TAIL,
    replace: "    this.#out = ''\n    this.onClose()",
    by: "    this.#out = ''",
    with: [],
    seeds: 5,
  },
  {
    name: 'a read of the log that fails is not tried again',
    file: TAIL,
    replace: 'if (isOurs()) this.#retryLater(error, isOurs)',
    by: '',
    with: ['store-fails-before', 'client-is-slow', 'tool-chatters'],
    seeds: 120,
  },
  {
    name: 'a resumed stream begins at its start',
    file: TAIL,
    replace: 'this.#seen = stream.after',
    by: 'this.#seen = 0',
    with: ['client-cuts'],
    seeds: 40,
  },
  {
    name: 'what was stored already is stored again',
    file: BACKLOG,
    replace: 'page.more ? [] : endOf(events, waiting)',
    by: '[] as StoredEvent[]',
    with: ['store-fails-after', 'store-cuts-batches', 'tool-chatters'],
    seeds: 200,
  },
  {
    name: 'what the store refused is not shown',
    file: SESSION_LOG,
    replace: "if (kind === 'final' || kind === 'message') listener.pushUnstored(shown, kind === 'final')",
    by: "if (kind === 'none') listener.pushUnstored(shown, kind === 'final')",
    with: ['store-fails-before'],
    seeds: 100,
  },
  {
    name: 'appends do not go on beyond what the store had told',
    file: SESSION_LOG,
    replace: 'touch, beyond, ',
    by: 'touch, ',
    with: ['store-loses-moments'],
    seeds: 60,
  },
  {
    name: 'what turns out to be stored is told to nobody',
    file: BACKLOG,
    replace: 'show(stored, page.epoch!)',
    by: '',
    with: ['store-fails-after'],
    seeds: 200,
  },
  {
    name: 'a slow client that is ready again is not caught up with',
    file: 'src/session/streams/tail-states.ts',
    replace: "drained: ['reading', 'read'],",
    by: "drained: ['live', 'rest'],",
    with: ['client-is-slow', 'tool-chatters'],
    seeds: 60,
  },
]
