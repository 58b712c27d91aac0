import type { Mutant } from './mutant.ts'

const CALL = 'src/session/live/call.ts'
const CALLS = 'src/session/live/calls.ts'
const LIVE_SESSION = 'src/session/live/live-session.ts'
const SUBSCRIBERS = 'src/session/live/subscribers.ts'
const IDS = 'src/session/live/request-ids.ts'

export const LIVE: readonly Mutant[] = [
  {
    name: 'a forwarded call is not recorded before the app sees it',
    file: CALLS,
    replace: "if (remote) await log.append(streamId, 'open', openPayload(request), false)",
    by: '',
    with: ['kill', 'app-answers-json'],
    seeds: 100,
  },
  {
    name: 'a call that may have been made is made again',
    file: CALLS,
    replace: 'if (how.again && (await this.#isKnown(streamId))) return this.#resume(request, how)',
    by: '',
    with: ['kill', 'app-answers-json'],
    seeds: 100,
  },
  {
    name: 'the last answer does not end its stream',
    file: CALL,
    replace: "return void this.#end('final', data)",
    by: "return void log.append(this.streamId, 'message', data)",
    with: [],
    seeds: 3,
  },
  {
    name: 'a call that is over stays',
    file: CALLS,
    replace: '        this.#running.delete(streamId)\n        onEnd()',
    by: '        onEnd()',
    with: [],
    seeds: 5,
  },
  {
    name: 'a cancelled call is not ended',
    file: CALL,
    replace: "await this.#end('end')",
    by: '',
    with: ['client-cancels', 'tool-never-answers'],
    seeds: 20,
  },
  {
    name: 'answers to an instance that is gone are let through',
    file: IDS,
    replace: 'if (!String(id).startsWith(this.#prefix)) return STALE',
    by: '',
    with: ['kill', 'tool-asks', 'client-cuts'],
    seeds: 200,
  },
  {
    name: 'ids of the server go out without a mark',
    file: IDS,
    replace: 'return this.#prefix + idKey(id)',
    by: 'return idKey(id)',
    with: ['tool-asks'],
    seeds: 10,
  },
  {
    name: 'a second GET does not end the first',
    file: LIVE_SESSION,
    replace: 'this.audience.end(streamId)',
    by: '',
    with: ['client-listens', 'client-opens-second-get', 'tool-announces'],
    seeds: 150,
  },
  {
    name: 'a second GET does not wait until the first has said how far it got',
    file: SUBSCRIBERS,
    replace: 'if (left.length > 0) await Promise.race([Promise.all(left), delay(HAND_BACK)])',
    by: '',
    with: ['client-listens', 'client-opens-second-get', 'tool-announces'],
    seeds: 200,
  },
  {
    name: 'a session that stops leaves the app stream open',
    dormant: true,
    file: LIVE_SESSION,
    replace: '    this.#stop.stop()\n',
    by: '',
    with: ['drain'],
    seeds: 30,
  },
  {
    name: 'an event id of a client reaches the app',
    file: 'src/session/live/local-app.ts',
    replace: "  'last-event-id',\n",
    by: '',
    with: ['client-cuts'],
    seeds: 20,
  },
  {
    name: 'who listens no longer is kept',
    file: SUBSCRIBERS,
    replace: 'this.#options.log.detach(listener)',
    by: '',
    with: [],
    seeds: 5,
  },
]
