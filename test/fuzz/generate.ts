import { Random } from '../simulator/random.ts'
import { mutateBody } from './mutations/body.ts'
import { mutateFraming } from './mutations/framing.ts'
import { mutateHeaders } from './mutations/headers.ts'
import { mutateIdentity } from './mutations/identity.ts'
import { mutateTarget } from './mutations/target.ts'
import { OPERATIONS } from './operations.ts'
import { type Caller, headerOf, type Mutation, namedIn, type Plan, textOf } from './plan.ts'

const CALLERS: readonly Caller[] = ['bob', 'bob', 'bob', 'alice', 'alice', 'mallory', 'forged', 'nobody']
const SESSIONS = [...Array(6).fill('alice.main'), 'bob.main', 'bob.main', 'alice.fresh', 'bob.fresh']

/** Most is right about most requests: what is wrong with everything gets no further than the first check. */
const MUTATIONS: readonly Mutation[] = [
  mutateTarget,
  mutateHeaders,
  mutateIdentity,
  mutateBody,
  mutateFraming,
]
const HOW_MANY = [0, 1, 1, 1, 1, 2, 2, 3, 4]

/** The request of this number: depends on the seed and on nothing else. */
export function generate(seed: number, number: number): Plan {
  const random = new Random(Math.imul(seed, 1_000_003) + number)
  const caller = random.pick(CALLERS)
  const session = random.chance(0.1) ? undefined : random.pick(SESSIONS)
  const plan: Plan = {
    number,
    caller,
    method: 'POST',
    target: '/mcp',
    version: 'HTTP/1.1',
    headers: [
      ['Host', 'localhost'],
      ['Accept', 'application/json, text/event-stream'],
    ],
    body: undefined,
    coding: [],
    encodings: [],
    framing: random.chance(0.2) ? 'chunked' : 'length',
    story: [],
  }
  if (caller !== 'nobody') plan.headers.push(['{credential}', `{token.${caller}}`])
  if (session !== undefined) {
    plan.headers.push(['Mcp-Session-Id', `{${session}.id}`], ['Mcp-Protocol-Version', '2025-11-25'])
  }
  random.pick(OPERATIONS)(plan, random)
  if (plan.body !== undefined) plan.headers.push(['Content-Type', 'application/json'])
  for (let left = random.pick(HOW_MANY); left > 0; left -= 1) random.pick(MUTATIONS)(plan, random)
  spare(plan)
  return plan
}

/** What may end or change a session is done to `main` by strangers only: its owner has `fresh` ones for that. */
function spare(plan: Plan): void {
  if (isHarmless(plan)) return
  for (const user of ['alice', 'bob']) {
    if (!textOf(plan).includes(`{token.${user}`) || !namedIn(plan).has(`${user}.main`)) continue
    const swap = (text: string) => text.replaceAll(`{${user}.main.`, `{${user}.fresh.`)
    plan.target = swap(plan.target)
    plan.headers = plan.headers.map(([name, value]) => [name, swap(value)])
    plan.body = plan.body === undefined ? undefined : swap(plan.body)
  }
}

const HARMLESS = /"method":"(?:ping|tools\/list|tools\/call|prompts\/list)"/

function isHarmless(plan: Plan): boolean {
  if (plan.method !== 'POST' || headerOf(plan, 'x-http-method-override') !== undefined) return false
  // What it is accepted with is what its session can be taken over with.
  if (plan.headers.some(([name]) => /^(?:cookie|x-api-key|authorization)$/i.test(name))) return false
  const { body = '' } = plan
  return HARMLESS.test(body) && !/cancelled|initialize|"result"|logging/.test(body)
}
