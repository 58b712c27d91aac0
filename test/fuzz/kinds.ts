import type { PersistOptions, PrincipalRequest } from '../../src/index.ts'
import type { GuardedFramework } from '../support/apps/guarded.ts'
import { jwt } from '../support/apps/guarded.ts'
import type { Caller, User } from './plan.ts'

/** How the wrapped app's users are told apart. */
export interface Identity {
  readonly name: string
  /** What a caller carries, and in which header. */
  readonly header: string
  readonly token: (caller: Caller) => string
  /** The wrapped app asks whose a session is. Where it does not, that is left to us; the unwrapped one always does. */
  readonly appLooks: boolean
  readonly setsAuth?: true
  readonly options?: PersistOptions
  readonly frameworks?: readonly Framework[]
}

const frameworks = ['express', 'fastify', 'hono', 'url'] as const
/** `factory`: behind a middleware of Express that lets known users in, as a factory has none of its own. */
export type Framework = Extract<GuardedFramework, (typeof frameworks)[number]> | 'url' | 'factory'

/** Where requests meet the session. `takeover`: its owner leaves again and again. */
const places = ['at the owner', 'at two nodes', 'at a takeover'] as const

export interface Kind {
  readonly framework: Framework
  readonly identity: Identity
  readonly place: (typeof places)[number]
  /** How requests come to the wrapped app. Default: as to the other one, over HTTP/1. */
  readonly face?: 'HTTP/2' | 'fetch'
  /** The app answers in plain JSON. */
  readonly json?: true
}

const opaque = (caller: Caller) => `${caller}-1`
const issued = (sub: string, more = {}) => `Bearer ${jwt({ iss: 'https://issuer.example', sub, ...more })}`

const IDENTITIES: readonly Identity[] = [
  {
    name: 'opaque tokens',
    header: 'Authorization',
    token: (caller) => `Bearer ${opaque(caller)}`,
    appLooks: true,
  },
  {
    name: 'the option principal',
    header: 'Authorization',
    token: (caller) => `Bearer ${opaque(caller)}`,
    appLooks: false,
    options: { principal: byToken },
  },
  {
    name: 'the option principal and the app',
    header: 'Authorization',
    token: (caller) => `Bearer ${opaque(caller)}`,
    appLooks: true,
    options: { principal: byToken },
  },
  {
    name: 'JWTs',
    header: 'Authorization',
    token: (caller) => (caller === 'forged' ? issued('alice', { forged: true }) : issued(caller)),
    appLooks: false,
  },
  {
    name: 'AuthInfo in the app',
    header: 'Authorization',
    token: (caller) => `Bearer ${opaque(caller)}`,
    appLooks: false,
    setsAuth: true,
    frameworks: ['express', 'fastify'],
  },
  {
    name: 'AuthInfo in front',
    header: 'Authorization',
    token: (caller) => `Bearer ${opaque(caller)}`,
    appLooks: false,
    frameworks: ['factory'],
  },
  { name: 'API keys', header: 'X-Api-Key', token: opaque, appLooks: true },
  { name: 'cookies', header: 'Cookie', token: opaque, appLooks: true },
]

const NAMES: Readonly<Record<string, User>> = { 'Bearer alice-1': 'alice', 'Bearer bob-1': 'bob' }

function byToken({ headers }: PrincipalRequest): string | null {
  return NAMES[headers.get('authorization') ?? ''] ?? null
}

type Served = Pick<Kind, 'face' | 'json'> & { readonly frameworks: readonly Framework[] }

/** The ways to be served that have little to do with who asks: with those who differ most in it. */
const SERVED: readonly Served[] = [
  { face: 'HTTP/2', frameworks: ['express', 'fastify', 'hono', 'url'] },
  { face: 'fetch', frameworks: ['express', 'hono', 'url'] },
  { json: true, frameworks: ['express', 'hono', 'url'] },
]
const DIFFERENT = new Set(['opaque tokens', 'the option principal', 'cookies'])

const PLAIN = IDENTITIES.flatMap((identity) =>
  (identity.frameworks ?? frameworks).map((framework) => ({ framework, identity })),
)
const OTHERS = IDENTITIES.filter(({ name }) => DIFFERENT.has(name)).flatMap((identity) =>
  SERVED.flatMap(({ frameworks, ...served }) =>
    frameworks.map((framework) => ({ framework, identity, ...served })),
  ),
)

/** Every app with every way to tell its users apart, everywhere; neighbours differ in as much as they can. */
export const KINDS: readonly Kind[] = spread(
  places.flatMap((place) => [...PLAIN, ...OTHERS].map((kind) => ({ ...kind, place }))),
)

export function nameOf({ framework, identity, place, face, json }: Kind): string {
  const served = face ? ` by ${face}` : json ? ' in JSON' : ''
  return `${framework}${served}, ${identity.name}, ${place}`
}

function spread<T>(list: readonly T[]): readonly T[] {
  // A step that has no divisor in common with the length meets every one.
  let step = Math.floor(list.length * 0.382)
  while (divisor(step, list.length) !== 1) step += 1
  return list.map((_, i) => list[(i * step) % list.length]!)
}

function divisor(a: number, b: number): number {
  return b === 0 ? a : divisor(b, a % b)
}
