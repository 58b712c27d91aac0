import { asMeant } from './allowed.ts'
import { generate } from './generate.ts'
import { KINDS, type Kind } from './kinds.ts'
import { judge, type Violation } from './oracle.ts'
import type { Package } from './package.ts'
import type { Plan } from './plan.ts'
import { World } from './world.ts'

/** Requests that share a world. */
export const BLOCK = 100
// Under way at the same time.
const LANES = 16
/** At a takeover the owner leaves after so many. */
const TENURE = 25

export interface RunOptions {
  readonly pkg: Package
  readonly seed: number
  /** The first number, and one behind the last. */
  readonly from: number
  readonly to: number
  /** Milliseconds after which no other world is begun. */
  readonly most?: number
  /** Of so many processes the one of this number, which does every so manieth block. Default: all. */
  readonly share?: { readonly one: number; readonly of: number }
  /** Of every world. Default: each block has one of its own. */
  readonly kind?: Kind
  /** Ends with the first violation. */
  readonly untilOne?: boolean
  readonly onViolation?: (violation: Violation, world: World) => void | Promise<void>
}

/** Makes the requests `from` to `to`, each in the world of its block; resolves with what went wrong. */
export async function run({
  pkg,
  seed,
  from,
  to,
  most = Number.POSITIVE_INFINITY,
  share,
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
  try {
    while (number < to && performance.now() - began < most && !(untilOne && violations.length > 0)) {
      const end = Math.min(to, (Math.floor(number / BLOCK) + 1) * BLOCK)
      if (share && Math.floor(number / BLOCK) % share.of !== share.one) {
        number = end
        continue
      }
      const world = await World.open(kind ?? kindOf(number), pkg)
      const report = (violation: Violation) => {
        violations.push(violation)
        void onViolation?.(violation, world)
      }
      const enough = () => untilOne === true && violations.length > 0
      await block(world, { seed, from: number, to: end, enough }, report)
      await world.close()
      number = end
    }
  } finally {
    process.off('unhandledRejection', unhandled)
    process.off('uncaughtException', unhandled)
  }
  return violations
}

export function kindOf(number: number): Kind {
  return KINDS[Math.floor(number / BLOCK) % KINDS.length]!
}

async function block(
  world: World,
  { seed, from, to, enough }: { seed: number; from: number; to: number; enough: () => boolean },
  report: (violation: Violation) => void,
): Promise<void> {
  for (let at = from; at < to; ) {
    const until = world.kind.place === 'at a takeover' ? Math.min(to, at + TENURE) : to
    if (world.kind.place === 'at a takeover') await world.moveOn()
    let next = at
    const lane = async () => {
      while (next < until && !enough()) {
        const plan = generate(seed, next++)
        const violation = await judged(plan, world)
        if (violation) report(violation)
      }
    }
    await Promise.all(Array.from({ length: LANES }, lane))
    at = until
  }
  if (enough()) return
  for (const violation of effects(world)) report(violation)
  const wrong = await world.check()
  if (wrong !== undefined) report({ number: to - 1, rule: 'a victim', message: wrong })
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

async function answered(plan: Plan, world: World): Promise<Violation | undefined> {
  const [unwrapped, wrapped] = await Promise.all([world.ask(plan, 'unwrapped'), world.ask(plan, 'wrapped')])
  const violation = judge(plan, { unwrapped, wrapped }, world)
  const meant = violation && asMeant(plan)
  return meant ? judge(plan, { unwrapped: await world.ask(meant, 'unwrapped'), wrapped }, world) : violation
}

/** What was done in the wrapped app is what was done in the other one, or less. */
function effects({ journals }: World): Violation[] {
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
    if (Number.isNaN(number) || times <= (unwrapped.get(tag) ?? 0)) return []
    return [
      {
        number,
        rule: 'an effect' as const,
        message: `it was done ${times} times instead of ${unwrapped.get(tag) ?? 0}`,
      },
    ]
  })
}
