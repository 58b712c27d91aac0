import { ALLOWED } from './allowed.ts'
import { type Plan, type Side, textOf } from './plan.ts'
import type { Outcome } from './wire.ts'
import type { World } from './world.ts'

/** What must never be. */
export interface Violation {
  readonly number: number
  readonly rule: Rule
  readonly message: string
  /** What it was found in, where it was an answer. */
  readonly both?: Both
}

export type Rule =
  | 'more open'
  | 'worse served'
  | 'an error of ours'
  | 'a secret'
  | 'the inside'
  | 'a hang'
  | 'an effect'
  | 'a victim'
  | 'the process'

type Both = Readonly<Record<Side, Outcome>>

/** What paths, stacks and addresses of the inside look like. */
const INSIDE =
  /node_modules|\/src\/|node:internal|\bat \S+ \(|ECONN|127\.0\.0\.1:\d|SQLITE|mcp-persist\b(?!-)/

/** Judges the answers to one request; undefined: all is well. */
export function judge(plan: Plan, both: Both, world: World): Violation | undefined {
  const found = (rule: Rule, message: string) => ({ number: plan.number, rule, message, both })
  const { unwrapped, wrapped } = both
  for (const { user, secret, ids } of world.secrets()) {
    const isTheirs = textOf(plan).includes(`{token.${user}}`) && unwrapped.status < 300
    if (isTheirs) continue
    if (wrapped.text.includes(secret)) return found('a secret', `of ${user} is in the answer`)
    const id = wrapped.headers.get('mcp-session-id')
    if (id !== undefined && ids.includes(id))
      return found('a secret', `the session of ${user} is named in the answer`)
  }
  // The pages of Express are its own.
  if (INSIDE.test(wrapped.body) && !INSIDE.test(unwrapped.body) && !wrapped.body.startsWith('<!DOCTYPE'))
    return found('the inside', wrapped.body.slice(0, 200))
  if (isAllowed(plan, both)) return undefined
  if (wrapped.end === 'silent' && unwrapped.end !== 'silent') return found('a hang', 'no answer in time')
  if (wrapped.end === 'open' && unwrapped.end === 'complete' && unwrapped.status < 300 && !unwrapped.isStream)
    return found('a hang', 'a stream that the unwrapped app does not have open')
  if (wrapped.status >= 500 && unwrapped.status < 500)
    return found('an error of ours', `${wrapped.status} instead of ${unwrapped.status}`)
  if (refuses(unwrapped) && !refuses(wrapped))
    return found('more open', `${wrapped.status} instead of ${unwrapped.status}`)
  if (!refuses(unwrapped) && refuses(wrapped))
    return found('worse served', `${wrapped.status} instead of ${unwrapped.status}`)
  return undefined
}

/** Also by hanging up without a word, or by saying nothing at all. */
function refuses({ status }: Outcome): boolean {
  return status === 0 || status >= 400
}

function isAllowed(plan: Plan, both: Both): boolean {
  return ALLOWED.some(({ when }) => when(plan, both))
}
