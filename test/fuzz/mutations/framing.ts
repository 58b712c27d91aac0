import type { Random } from '../../simulator/random.ts'
import type { Framing, Plan } from '../plan.ts'

const FRAMINGS: readonly Framing[] = [
  'chunked',
  'chunked, with extension and trailer',
  'length and chunked',
  'two lengths',
  'none',
  'too short',
  'LF only',
  'empty line first',
  'twice',
]

const VERSIONS = ['HTTP/1.0', 'HTTP/1.0', 'HTTP/1.1', 'HTTP/2.0', 'HTTP/0.9', 'http/1.1', 'HTTP/1.9', '']

/** Where the message ends, and which HTTP it is. */
export function mutateFraming(plan: Plan, random: Random): void {
  if (random.chance(0.3)) plan.version = random.pick(VERSIONS)
  else plan.framing = random.pick(FRAMINGS)
  plan.story.push(`${plan.version}, framing: ${plan.framing}`)
}
