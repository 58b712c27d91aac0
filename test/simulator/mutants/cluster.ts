import type { Mutant } from './mutant.ts'

const ENGINE = 'src/session/engine.ts'
const SERVING = 'src/session/serving.ts'
const PEERS = 'src/session/cluster/peers.ts'
const FOLLOWERS = 'src/session/cluster/followers.ts'
const EXCHANGE = 'src/session/cluster/exchange.ts'

export const CLUSTER: readonly Mutant[] = [
  {
    name: 'whom the app would refuse hears 404 of an unknown session',
    file: 'src/session/app-word.ts',
    replace: 'if (response?.status === 401 || response?.status === 403) return relay(response)',
    by: '',
    with: ['principal', 'strangers'],
    seeds: 10,
  },
  {
    name: 'a request that was lost with its owner is taken for new',
    file: SERVING,
    replace: "(answer === 'recorded' && !asked.again)",
    by: 'false',
    with: ['kill', 'app-answers-json'],
    seeds: 100,
  },
  {
    name: 'a drain waits for nothing to run',
    file: ENGINE,
    replace: 'await this.#holder.handOverQuiet(retry, 2 * retry + COMES_BACK)',
    by: '',
    with: ['drain'],
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
    name: 'what still arrives at a node that closes is answered',
    file: PEERS,
    replace: 'if (this.#gone.has(from) || !this.#identity) return',
    by: 'if (this.#gone.has(from)) return',
    with: ['drain', 'messages-late', 'store-slow'],
    seeds: 300,
  },
  {
    name: 'a question that is lost is not asked again',
    file: EXCHANGE,
    replace: 'asking.timer = timer(() => this.#say(nodeId, pair, asking), asking.wait)',
    by: '',
    with: ['messages-lost'],
    seeds: 30,
  },
  {
    name: 'an owner does not hear that a client at another node has gone',
    file: EXCHANGE,
    replace: 'if (left) asked?.gone.stop()',
    by: '',
    with: ['app-answers-json', 'app-hangs', 'client-cuts'],
    seeds: 100,
  },
  {
    name: 'a question that comes twice is worked at twice',
    file: EXCHANGE,
    replace:
      'if (id < pair.floor || pair.settled.has(id)) return\n    if (pair.asked.has(id)) return void this.#onAfter(from, pair, item)',
    by: '',
    with: ['messages-doubled'],
    seeds: 60,
  },
  {
    name: 'nobody says what it follows',
    file: PEERS,
    replace: '    this.forwarder.beat()\n',
    by: '',
    with: ['messages-lost'],
    seeds: 60,
  },
  {
    name: 'an owner does not ask what is followed',
    file: FOLLOWERS,
    replace: "if (digestOf(active) !== item.digest) this.#send(from, { type: 'which' })",
    by: 'if (digestOf(active) !== item.digest) return',
    with: ['messages-lost', 'drain'],
    seeds: 200,
  },
  {
    name: 'an owner is silent about what it does not know',
    file: FOLLOWERS,
    replace: "if (unknown.length > 0) this.#send(from, { type: 'unknown', ids: unknown })",
    by: '',
    with: ['messages-lost', 'drain'],
    seeds: 200,
  },
]
