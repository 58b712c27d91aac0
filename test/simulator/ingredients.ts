import type { Random } from './random.ts'

/**
 * What a world may be made of. Each seed takes some of them and leaves the others out: two faults that hide each other
 * in every world where both occur are met alone in some.
 */
export const INGREDIENTS = {
  /** The store. */
  'store-fails-before': 'an operation fails, and was not done',
  'store-fails-after': 'an operation fails, though it was done',
  'store-cuts-batches': 'of appends that travel together the first are stored, and all of them fail',
  'store-slow': 'an answer takes up to two seconds',
  'store-out-of-order': 'answers overtake each other',
  'store-repeats': 'an operation that may be repeated is done twice',
  'store-away': 'the store is away for everybody, and back for one after the other',
  'store-away-for-one': 'one node does not reach the store',
  'store-loses-moments': 'the store restarts without its last moments',
  'first-subscription-fails': 'the first subscription of a node fails',

  /** Between nodes. */
  'messages-lost': 'what one node sends to another is lost',
  'messages-doubled': 'what one node sends to another comes twice',
  'messages-late': 'what one node sends to another comes late, and behind what was sent later',
  'connections-drop': 'the connection on which a node hears the others drops, and is back',

  /** Nodes. */
  kill: 'a node is killed',
  pause: 'a node is stopped for a moment',
  'pause-long': 'a node is stopped for longer than its lease',
  drain: 'a node is drained, and another takes its place',
  add: 'a node more',
  'clocks-apart': 'clocks of nodes run apart',

  /** Options of the engine. */
  'idle-0': 'a session that nobody uses is released at once',
  'no-priming': 'clients get no priming events',
  'retry-interval': 'clients are told how long to wait',
  'fail-on-store-error': 'an answer that cannot be stored fails its call',
  'keep-alive': 'comment lines keep streams open',
  principal: 'sessions are bound to who opened them',

  /** The app. */
  'app-serves-everybody': 'the app does not look at whose session it is',
  'app-answers-json': 'some calls are answered in plain JSON',
  'app-has-no-get': 'the app has no standalone stream',
  'app-late-head': 'the head of the standalone stream comes with its first event',
  'app-loses-sessions': 'the app forgets a session of its own',
  'app-answers-503': 'the app answers 503 for a moment',
  'app-hangs': 'the app does not answer for a moment',
  'app-hangs-in-initialize': 'the app does not answer an initialize',

  /** Its tools. */
  'tool-cuts': 'a tool asks its client to come again (closeSSEStream)',
  'tool-cuts-at-once': 'the same, before anything else',
  'tool-asks': 'a tool asks its client on the stream of its call',
  'tool-asks-aside': 'a tool asks its client on the standalone stream',
  'tool-announces': 'a tool says something on the standalone stream',
  'tool-cuts-standalone': 'a tool ends the standalone stream (closeStandaloneSSEStream)',
  'tool-chatters': 'a tool notifies a lot, at once',
  'tool-never-answers': 'a tool does not answer, and its client cancels or leaves',
  'tool-throws': 'a tool is answered with an error',
  'tool-breaks-off': 'the stream of a call breaks off',
  'tool-kills': 'a tool ends its process',

  /** Clients. */
  'client-cuts': 'a client loses its connection at some byte, and resumes',
  'client-cancels': 'a client cancels a call',
  'client-batches': 'a client sends several calls in one request',
  'client-repeats-ids': 'a client uses a request id again while it is in use',
  'client-opens-second-get': 'a client opens its standalone stream a second time',
  'client-deletes': 'a client ends its session',
  'client-returns-late': 'a client comes back when its session is gone',
  'client-listens': 'a client listens on the standalone stream',
  'client-stays': 'a client listens for longer than a ttl, and goes on',
  'client-is-slow': 'a client reads slowly',
  strangers: 'somebody else knows the id of a session',
} as const

export type Ingredient = keyof typeof INGREDIENTS

export const ALL_INGREDIENTS = Object.keys(INGREDIENTS) as Ingredient[]

/** Some of those that are allowed; `always` in any case. */
export function choose(
  random: Random,
  allowed: readonly Ingredient[],
  always: readonly Ingredient[],
): ReadonlySet<Ingredient> {
  const share = random.pick([0.1, 0.2, 0.35])
  const chosen = new Set(always)
  // Drawn for each, allowed or not: what is allowed does not move the rest of the world.
  for (const ingredient of ALL_INGREDIENTS) {
    if (random.chance(share) && allowed.includes(ingredient)) chosen.add(ingredient)
  }
  return chosen
}
