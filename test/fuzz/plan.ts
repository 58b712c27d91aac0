import type { Random } from '../simulator/random.ts'

export const USERS = ['alice', 'bob'] as const
export type User = (typeof USERS)[number]

export const SIDES = ['unwrapped', 'wrapped'] as const
export type Side = (typeof SIDES)[number]

/** Who asks. Mallory has a token that is nobody's; `forged` is one that says it is alice's. */
export type Caller = User | 'mallory' | 'forged' | 'nobody'

/**
 * What will be sent, the same to both sides: `{alice.main.id}` and the like stand for what each side knows under that
 * name. `fresh` is a session opened for this request alone, to which its owner may do anything.
 */
export interface Plan {
  readonly number: number
  caller: Caller
  method: string
  target: string
  version: string
  /** As they will stand on the wire, in this order. */
  headers: [name: string, value: string][]
  body: string | undefined
  /** How the bytes of the body are to be spoiled or encoded, one after the other. */
  coding: ((body: Buffer) => Buffer)[]
  /** Those of them that Content-Encoding speaks of. */
  encodings: ((body: Buffer) => Buffer)[]
  framing: Framing
  /** What was done to it, for whoever reads the report. */
  readonly story: string[]
}

export type Framing =
  | 'length'
  | 'chunked'
  | 'chunked, with extension and trailer'
  | 'length and chunked'
  | 'two lengths'
  | 'none'
  | 'too short'
  | 'LF only'
  | 'empty line first'
  | 'twice'

/** One thing that is done to a request. */
export type Mutation = (plan: Plan, random: Random) => void

export function setHeader(plan: Plan, name: string, value: string | undefined): void {
  const rest = plan.headers.filter(([each]) => each.toLowerCase() !== name.toLowerCase())
  plan.headers = value === undefined ? rest : [...rest, [name, value]]
}

export function headerOf(plan: Plan, name: string): string | undefined {
  return plan.headers.find(([each]) => each.toLowerCase() === name.toLowerCase())?.[1]
}

/** All text of a plan in which a name may stand. */
export function textOf({ target, headers, body }: Plan): string {
  return `${target}\n${headers.flat().join('\n')}\n${body ?? ''}`
}

/** The sessions that are named, as `alice.main`. */
export function namedIn(plan: Plan): Set<string> {
  return new Set([...textOf(plan).matchAll(/\{(\w+\.\w+)\.\w+\}/g)].map(([, name]) => name!))
}
