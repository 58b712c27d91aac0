/** One line of the sources, put wrong: what the fuzzer must notice. */
export interface Mutant {
  readonly name: string
  readonly file: string
  /** Stands in the file exactly once. */
  readonly replace: string
  readonly by: string
  /** The world in which it is looked for, by a part of its name. */
  readonly world: string
  /** It is found within so many requests. */
  readonly requests: number
}

const DOORS = 'src/http/doors.ts'
const OWNED = 'src/session/ownership/owned-sessions.ts'
const LOCAL_APP = 'src/session/live/local-app.ts'
const LIVE_SESSION = 'src/session/live/live-session.ts'
const BINDING = 'src/session/live/binding.ts'

export const MUTANTS: readonly Mutant[] = [
  {
    name: 'the principal of a live session is not compared',
    file: OWNED,
    replace: 'return live.local.binding.mayHave(principal) ? { live } : MISSING',
    by: 'return { live }',
    world: 'express, the option principal, at the owner',
    requests: 100,
  },
  {
    name: 'the principal of a session without an owner is not compared',
    file: OWNED,
    replace: 'if (readable && !mayHave(record, principal)) return MISSING',
    by: '',
    world: 'hono, the option principal and the app, at a takeover',
    requests: 500,
  },
  {
    name: 'any credential takes a session over',
    file: OWNED,
    replace: 'if (!mayTakeOver(record, caller, settings)) return MISSING',
    by: '',
    world: 'express, opaque tokens, at a takeover',
    requests: 500,
  },
  {
    name: 'a 404 to anybody means that the app has lost its session',
    file: LOCAL_APP,
    replace: 'const lost = await this.#isLost(request)',
    by: 'const lost = true',
    world: 'express, opaque tokens, at the owner',
    requests: 250,
  },
  {
    name: 'whether the app has lost its session is asked in anybody’s name',
    file: LOCAL_APP,
    replace: 'const status = await this.#statusOf(this.#caller)',
    by: 'const status = await this.#statusOf(request)',
    world: 'fastify, opaque tokens, at two nodes',
    requests: 250,
  },
  {
    name: 'a session that is held here is served at other routes too',
    file: DOORS,
    replace: 'if (known) return { refusal: sessionNotFound() }',
    by: '',
    world: 'fastify, the option principal, at the owner',
    requests: 500,
  },
  {
    name: 'of a header that stands twice a web app sees one',
    file: DOORS,
    replace: "joinsLines: resolved.kind === 'fetch' || resolved.kind === 'url'",
    by: 'joinsLines: false',
    world: 'hono, opaque tokens, at the owner',
    requests: 500,
  },
  {
    name: 'who asks is not asked of the app before a call reaches the session',
    file: BINDING,
    replace: 'if (!this.onlyTheAppKnows) return false',
    by: 'return false',
    world: 'express, AuthInfo in the app, at the owner',
    requests: 500,
  },
  {
    name: 'whoever the app accepts has the session',
    file: BINDING,
    replace: 'return !this.onlyTheAppKnows || fromAuthInfo(inApp) === this.#principal',
    by: 'return true',
    world: 'fastify, AuthInfo in the app, at two nodes',
    requests: 250,
  },
  {
    name: 'a standalone stream is opened without a word of the app',
    file: LIVE_SESSION,
    replace: `    if (allowed.status !== 200) return allowed
    if (!request.headers['accept']`,
    by: "    if (!request.headers['accept']",
    world: 'hono, API keys, at the owner',
    requests: 250,
  },
  {
    name: 'a DELETE that the app refuses ends the session',
    file: LIVE_SESSION,
    replace: 'if (answer.status < 300) await this.#options.onTerminated()',
    by: 'await this.#options.onTerminated()',
    world: 'url, cookies, at the owner',
    requests: 250,
  },
  {
    name: 'a body that is inflated is still called zipped',
    file: 'src/http/serve-node.ts',
    replace: 'if (!service.body?.encoded) forgetEncoding(headers)',
    by: '',
    world: 'express, JWTs, at the owner',
    requests: 500,
  },
  {
    name: 'a header hides the method of Headers that it is named like',
    file: 'src/session/protocol/principal.ts',
    replace: 'if (!(name in view)) Object.defineProperty',
    by: 'Object.defineProperty',
    world: 'express, the option principal, at two nodes',
    requests: 1000,
  },
  {
    name: 'a method in small letters is one of our own',
    file: DOORS,
    replace: "if ('endpoint' in way && method !== method?.toUpperCase())",
    by: 'if (false)',
    world: 'hono by HTTP/2, opaque tokens, at the owner',
    requests: 1000,
  },
]
