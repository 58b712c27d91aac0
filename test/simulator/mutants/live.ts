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
    replace: 'const recorded = await this.#record(running)',
    by: 'const recorded = false',
    with: ['kill', 'app-answers-json', 'messages-lost'],
    seeds: 100,
  },
  {
    name: 'a call that may have been made is made again',
    file: CALLS,
    replace: 'if (how.again && (this.has(streamId) || (await this.#isKnown(streamId))))',
    by: 'if (how.again && this.has(streamId))',
    with: ['kill', 'app-answers-json'],
    seeds: 100,
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
    name: 'a session that stops leaves the app stream open',
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
    replace: 'this.#options.log.detach(subscriber)',
    by: '',
    with: [],
    seeds: 5,
  },
  {
    name: 'an answer without a stream is not stored for the node that asked',
    file: CALLS,
    replace: "await log.append(streamId, isMessage ? 'final' : 'end', isMessage ? text : '', false)",
    by: '{}',
    with: ['app-answers-json', 'idle-0'],
    seeds: 60,
  },
  {
    name: 'the app sees a forwarded call before its record is stored',
    file: CALLS,
    replace: 'const recorded = await this.#record(running)',
    by: 'const recorded = this.#record(running) !== undefined',
    with: ['pause-long', 'app-hangs'],
    seeds: 60,
  },
  {
    name: 'a stream that the app cuts twice counts as ended',
    file: CALL,
    replace: 'lastEventId = heard ?? lastEventId',
    by: 'lastEventId = heard',
    with: ['tool-cuts', 'tool-cuts-at-once'],
    seeds: 40,
  },
  {
    name: 'a client that has no id is sent away',
    file: CALL,
    replace: 'if (primed || this.#said) onCut()',
    by: 'onCut()',
    with: ['no-priming', 'tool-cuts-at-once'],
    seeds: 40,
  },
  {
    name: 'a refused notifications/initialized counts as said',
    file: 'src/session/live/local-app.ts',
    replace: 'if (response.status >= 300) throw new AppSilent()',
    by: '',
    with: ['app-answers-503', 'idle-0'],
    seeds: 100,
  },
]
