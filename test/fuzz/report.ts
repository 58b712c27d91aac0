import { generate } from './generate.ts'
import { nameOf } from './kinds.ts'
import type { Violation } from './oracle.ts'
import { SIDES } from './plan.ts'
import type { World } from './world.ts'

/** So often the same is told. */
const OFTEN = 3

/** Prints what went wrong; `fully`: also the bytes that were sent. */
export function report(seed: number, fully: boolean) {
  const told = new Map<string, number>()
  return async ({ number, rule, message, both }: Violation, world: World): Promise<void> => {
    const key = `${rule}: ${message.slice(0, 60)}`
    told.set(key, (told.get(key) ?? 0) + 1)
    if (told.get(key)! > OFTEN) return
    const plan = generate(seed, number)
    console.log(`seed ${seed}, ${number}: ${rule}: ${message} [${nameOf(world.kind)}]`)
    console.log(
      `    ${plan.caller}: ${plan.method} ${plan.target.slice(0, 80)} (${plan.story.join(' | ').slice(0, 300)})`,
    )
    if (!fully) return
    for (const line of world.log) console.log(`    log: ${line}`)
    const fresh = await world.fresh(plan)
    for (const side of SIDES) {
      const { bytes } = world.bytes(plan, side, fresh)
      console.log(`--- to the ${side} one\n${bytes.toString('latin1').slice(0, 4000)}`)
      if (both) console.log(`--- answered (${both[side].end})\n${both[side].text.slice(0, 1000)}`)
    }
  }
}
