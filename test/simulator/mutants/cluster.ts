import type { Mutant } from './mutant.ts'

const ENGINE = 'src/session/engine.ts'
const PEERS = 'src/session/cluster/peers.ts'
const FORWARDER = 'src/session/cluster/forwarder.ts'

export const CLUSTER: readonly Mutant[] = [
  {
    name: 'whom the app would refuse hears 404 of an unknown session',
    file: ENGINE,
    replace: 'if (response?.status === 401 || response?.status === 403) return relay(response)',
    by: '',
    with: ['principal', 'strangers'],
    seeds: 10,
  },
  {
    name: 'a request that was lost with its owner is taken for new',
    file: ENGINE,
    replace: "if (answer === 'gone') again = true",
    by: '',
    with: ['kill', 'app-answers-json'],
    seeds: 100,
  },
  {
    name: 'a drain waits for nothing to run',
    dormant: true,
    file: ENGINE,
    replace: 'await this.#holder.handOverQuiet(retry)',
    by: '',
    with: ['drain'],
    seeds: 20,
  },
  {
    name: 'nobody hears that a node is gone',
    file: PEERS,
    replace: '    this.edge.onGone(nodeId)\n',
    by: '',
    with: ['kill'],
    seeds: 20,
  },
  {
    name: 'the owner is not told that a client has gone',
    file: FORWARDER,
    replace: 'if (!this.#followed.delete(call) || !followed || followed.over) return',
    by: 'if (this.#followed.delete(call) || !followed || followed.over) return',
    with: ['client-listens'],
    seeds: 40,
  },
  {
    name: 'a tail that is followed elsewhere is not woken there',
    dormant: true,
    file: FORWARDER,
    replace: 'followed.owner = owner\n',
    by: '',
    with: ['drain', 'client-listens', 'tool-announces'],
    seeds: 100,
  },
  {
    name: 'a stream that begins now is read from the log alone',
    file: FORWARDER,
    replace: 'if (update) tail.push(update)',
    by: '',
    with: [],
    seeds: 20,
  },
  {
    name: 'a node that closes still looks after the others',
    file: PEERS,
    replace: 'clearInterval(this.#timer)',
    by: '',
    with: [],
    seeds: 5,
  },
  {
    name: 'a lost message between nodes is not noticed by the count',
    file: 'src/session/cluster/wake-ups.ts',
    replace: 'if (count !== expected) this.#handlers.onMissed(from)',
    by: '',
    dormant: true,
    with: ['messages-lost'],
    seeds: 60,
  },
  {
    name: 'what a former owner says is heeded',
    file: FORWARDER,
    replace: 'if (!followed || followed.owner !== from) return',
    by: 'if (!followed) return',
    dormant: true,
    with: ['pause-long', 'client-listens', 'tool-announces'],
    seeds: 200,
  },
]
