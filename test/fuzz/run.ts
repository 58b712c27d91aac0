import { asMeant } from './allowed.ts'
import { generate } from './generate.ts'
import { KINDS, type Kind } from './kinds.ts'
import { judge, type Violation } from './oracle.ts'
import type { Package } from './package.ts'
import type { Plan } from './plan.ts'
import type { Outcome } from './wire.ts'
import { type Fresh, World } from './world.ts'

/** Neighbours that are of one kind: few, so that a short run meets many kinds. */
const PIECE = 50
/** Requests that share a world at the most: it costs as much as some fifty of them. */
const WORLD = 250
// Under way at the same time.
const LANES = 16
/** At a takeover the owner leaves after so many. */
const TENURE = 50

export interface RunOptions {
  readonly pkg: Package
  readonly seed: number
  /** The first number, and one behind the last. */
  readonly from: number
  readonly to: number
  /** Milliseconds after which no other world is begun. */
  readonly most?: number
  /** Of so many processes the one of this number, which does every so manieth world. Default: all. */
  readonly share?: { readonly one: number; readonly of: number }
  /** Of every world. Default: each request has one of its own. */
  readonly kind?: Kind
  /** Ends with the first violation. */
  readonly untilOne?: boolean
  readonly onViolation?: (violation: Violation, world: World) => void | Promise<void>
}

/** Makes the requests `from` to `to`, each in a world of its kind; resolves with what went wrong. */
export async function run({
  pkg,
  seed,
  from,
  to,
  most = Number.POSITIVE_INFINITY,
  share = { one: 0, of: 1 },
  kind,
  untilOne,
  onViolation,
}: RunOptions): Promise<Violation[]> {
  const violations: Violation[] = []
  let number = from
  const began = performance.now()
  const unhandled = (error: unknown) => {
    violations.push({ number, rule: 'the process', message: String((error as Error)?.stack ?? error) })
  }
  process.on('unhandledRejection', unhandled)
  process.on('uncaughtException', unhandled)
  const enough = () => untilOne === true && violations.length > 0
  try {
    for (const [i, populace] of worlds(from, to, kind).entries()) {
      if (i % share.of !== share.one) continue
      if (enough() || performance.now() - began >= most) break
      number = populace.numbers[0]!
      const world = await World.open(populace.kind, pkg)
      const report = (violation: Violation) => {
        violations.push(violation)
        void onViolation?.(violation, world)
      }
      await all(populace.numbers, { seed, world, enough, report })
      await world.close()
    }
  } finally {
    process.off('unhandledRejection', unhandled)
    process.off('uncaughtException', unhandled)
  }
  return violations
}

export function kindOf(number: number): Kind {
  return KINDS[Math.floor(number / PIECE) % KINDS.length]!
}

interface Populace {
  readonly kind: Kind
  readonly numbers: number[]
}

function worlds(from: number, to: number, always: Kind | undefined): Populace[] {
  const list: Populace[] = []
  const open = new Map<Kind, Populace>()
  for (let number = from; number < to; number += 1) {
    const kind = always ?? kindOf(number)
    let populace = open.get(kind)
    if (!populace || populace.numbers.length === WORLD) {
      populace = { kind, numbers: [] }
      open.set(kind, populace)
      list.push(populace)
    }
    populace.numbers.push(number)
  }
  return list
}

interface Way {
  readonly seed: number
  readonly world: World
  readonly enough: () => boolean
  readonly report: (violation: Violation) => void
}

async function all(numbers: readonly number[], { seed, world, enough, report }: Way): Promise<void> {
  const isTakeover = world.kind.place === 'at a takeover'
  const tenure = isTakeover ? TENURE : numbers.length
  for (let at = 0; at < numbers.length; at += tenure) {
    if (isTakeover) await world.moveOn()
    const left = numbers.slice(at, at + tenure)
    const lane = async () => {
      while (left.length > 0 && !enough()) {
        const violation = await judged(generate(seed, left.shift()!), world)
        if (violation) report(violation)
      }
    }
    await Promise.all(Array.from({ length: LANES }, lane))
  }
  if (enough()) return
  for (const violation of effects(world)) report(violation)
  const wrong = await world.check()
  if (wrong !== undefined) report({ number: numbers.at(-1)!, rule: 'a victim', message: wrong })
}

async function judged(plan: Plan, world: World): Promise<Violation | undefined> {
  try {
    return await answered(plan, world)
  } catch (error) {
    return {
      number: plan.number,
      rule: 'a victim',
      message: `no session is to be had: ${(error as Error).message}`,
    }
  }
}

/** What is found in sessions that others have been at must be found in new ones: those may have left them unlike each other. */
async function answered(plan: Plan, world: World): Promise<Violation | undefined> {
  const violation = await answeredIn(await world.fresh(plan), plan, world)
  if (!violation) return undefined
  world.askedTwice.add(plan.number)
  return answeredIn(await world.fresh(plan, { unused: true }), plan, world)
}

async function answeredIn(fresh: Fresh, plan: Plan, world: World): Promise<Violation | undefined> {
  const [unwrapped, wrapped] = await Promise.all([
    world.ask(plan, 'unwrapped', fresh),
    world.ask(plan, 'wrapped', fresh),
  ])
  if (!unwrapped || !wrapped) return undefined
  const violation = judge(plan, { unwrapped, wrapped }, world)
  const meant = violation && asMeant(plan)
  if (meant) {
    const asked = await world.ask(meant, 'unwrapped', await world.fresh(meant, { unused: true }))
    return asked && judge(plan, { unwrapped: asked, wrapped }, world)
  }
  if (
    isOver(unwrapped) &&
    isOver(wrapped) &&
    unwrapped.status === wrapped.status &&
    !mayHaveEnded(plan, wrapped)
  )
    world.reuse(fresh)
  return violation
}

function isOver({ end }: Outcome): boolean {
  return end === 'complete'
}

function mayHaveEnded({ method, headers }: Plan, { status }: Outcome): boolean {
  return status < 300 && (method === 'DELETE' || headers.some(([name]) => /override/i.test(name)))
}

/**
 * What was done in the wrapped app is what was done in the other one, or less; but for what was asked twice, as one of the two
 * had refused it in a session that was no more like the other's.
 */
function effects({ journals, askedTwice }: World): Violation[] {
  const count = (side: keyof typeof journals) => {
    const counts = new Map<string, number>()
    for (const { what, tag } of journals[side].entries()) {
      if (what === 'start') counts.set(String(tag), (counts.get(String(tag)) ?? 0) + 1)
    }
    return counts
  }
  const unwrapped = count('unwrapped')
  return [...count('wrapped')].flatMap(([tag, times]) => {
    const number = Number(/^did-(\d+)/.exec(tag)?.[1] ?? Number.NaN)
    if (
      Number.isNaN(number) ||
      askedTwice.has(number) ||
      askedTwice.has(Math.floor(number / 10)) ||
      times <= (unwrapped.get(tag) ?? 0)
    )
      return []
    return [
      {
        number,
        rule: 'an effect' as const,
        message: `it was done ${times} times instead of ${unwrapped.get(tag) ?? 0}`,
      },
    ]
  })
}
