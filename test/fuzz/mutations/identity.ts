import type { Random } from '../../simulator/random.ts'
import { type Mutation, type Plan, setHeader } from '../plan.ts'

/** Another session's id, one that is none, one that stands there twice; another credential, or two. */
export function mutateIdentity(plan: Plan, random: Random): void {
  random.pick(random.chance(0.6) ? IDS : CREDENTIALS)(plan, random)
  plan.story.push(
    plan.headers
      .flatMap(([name, value]) => (/session|cred/i.test(name) ? [`${name}: ${value.slice(0, 70)}`] : []))
      .join('; '),
  )
}

const WEIRD = [
  '',
  'constructor',
  '__proto__',
  'toString',
  'undefined',
  'null',
  '0',
  '*',
  '../alice',
  "' OR 1=1 --",
  '%00',
  '\u0000',
  'a\u0001b',
  '\u00e9',
  'x'.repeat(257),
  'x'.repeat(9000),
  '{alice.main.id}\u0000',
  '{alice.main.id}\t',
  '{alice.main.id}%00',
  '{alice.main.id}\r\n {bob.main.id}',
  '{alice.main.id}\n',
  ' {alice.main.id} ',
  '"{alice.main.id}"',
  '{alice.main.id},',
  ',{alice.main.id}',
  '{alice.main.id}, {bob.main.id}',
  '{bob.main.id}, {alice.main.id}',
  '{alice.main.id};x',
  '{alice.main.upper}',
  '{alice.main.own}',
  '{bob.main.own}',
  '{alice.main.event}',
]

const IDS: readonly Mutation[] = [
  (plan, random) => setHeader(plan, 'Mcp-Session-Id', random.pick(WEIRD)),
  (plan, random) => setHeader(plan, 'Mcp-Session-Id', random.pick(WEIRD)),
  (plan, random) => void plan.headers.push(['Mcp-Session-Id', random.pick(WEIRD)]),
  (plan, random) => void plan.headers.unshift(['Mcp-Session-Id', random.pick(WEIRD)]),
  (plan) => void plan.headers.push(['Mcp-Session-Id', '{alice.main.id}']),
  (plan) => void plan.headers.unshift(['Mcp-Session-Id', '{bob.main.id}']),
  (plan) => setHeader(plan, 'Mcp-Session-Id', undefined),
  (plan) => void plan.headers.push(['mcp_session_id', '{alice.main.id}']),
  (plan) => void plan.headers.push(['Mcp-Session-Id ', '{alice.main.id}']),
  (plan) => {
    plan.target += `${plan.target.includes('?') ? '&' : '?'}sessionId={alice.main.id}`
  },
]

const CREDENTIALS: readonly Mutation[] = [
  (plan) => setHeader(plan, '{credential}', '{token.bob}'),
  (plan) => setHeader(plan, '{credential}', undefined),
  (plan) => void plan.headers.push(['{credential}', '{token.bob}']),
  (plan) => void plan.headers.push(['{credential}', '{token.alice}']),
  (plan) => void plan.headers.unshift(['{credential}', '{token.alice}']),
  (plan) => void plan.headers.unshift(['{credential}', '{token.mallory}']),
  (plan) => setHeader(plan, '{credential}', '{token.alice}, {token.bob}'),
  (plan) => setHeader(plan, '{credential}', '{token.bob},{token.alice}'),
  (plan) => setHeader(plan, '{credential}', ' {token.bob} '),
  (plan) => setHeader(plan, '{credential}', '{token.bob}x'),
  (plan, random) =>
    void plan.headers.push([
      random.pick(['Cookie', 'X-Api-Key', 'Proxy-Authorization', 'X-User']),
      '{token.alice}',
    ]),
]
