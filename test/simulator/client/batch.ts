import type { Message } from '../../../src/session/protocol/json-rpc.ts'
import type { Violations } from '../invariants/violations.ts'
import type { Ledger } from '../ledger.ts'
import type { Random } from '../random.ts'
import { isRepeated } from './call.ts'
import type { SimulatedClient } from './client.ts'
import { Heard } from './heard.ts'

export interface BatchOptions {
  readonly client: SimulatedClient
  readonly ledger: Ledger
  readonly violations: Violations
  readonly random: Random
  /** The store may have refused an answer, or lost it: what was not heard of it is gone. */
  readonly mayBeLost: () => boolean
  /** Has the store lost anything of that time? */
  readonly isForgotten: (from: number, to: number) => boolean
  /** Has what was said then expired? */
  readonly isOutlived: (moment: number) => boolean
  readonly now: () => number
}

/** Several calls in one request (2025-03-26): all are answered on its stream, each once. */
export async function batch(options: BatchOptions): Promise<void> {
  const { client, ledger, violations, random, mayBeLost, isForgotten, isOutlived, now } = options
  let name = `${client.process.name}/batch`
  let names = new Map<number, string>()
  let answers = new Map<number, Message>()
  /** When the first of them came. */
  let answered = 0
  let heard = new Heard(name, violations)
  let body: object[] | undefined
  await client.insist(`batch ${name}`, async () => {
    if (client.gone) return true
    if (heard.last === undefined) {
      for (const each of names.values()) ledger.left(each)
      if (body) name += '+'
      const count = random.between(2, 3)
      names = new Map(Array.from({ length: count }, (_, i) => [client.nextId(), `${name}/${i}`]))
      answers = new Map()
      heard = new Heard(name, violations)
      body = [...names].map(([id, each]) => {
        ledger.call(each, [{ wait: random.between(1, 50) }, { notify: 1 }], false)
        const params = { name: 'unsafe', arguments: { name: each } }
        return { jsonrpc: '2.0', id, method: 'tools/call', params }
      })
    }
    const outcome = await client.listen(heard, heard.last === undefined ? body : undefined, (message) => {
      if (message.method !== undefined) return
      const id = message.id as number
      if (answers.size === 0) answered = now()
      // Of an answer that the store has lost, or that has expired, the next owner knows nothing.
      if (answers.has(id) && !heard.unstored && !mayBeLost() && !isOutlived(answered))
        violations.add('once', `${names.get(id)} was answered twice`)
      answers.set(id, message)
    })
    if (answers.size === names.size) return true
    const runs = [...names.values()].flatMap((each) => ledger.calls.get(each)!.runs)
    const isExpired = runs.length > 0 && runs.every(({ ended }) => ended !== undefined && isOutlived(ended))
    const isGone = mayBeLost() || isExpired
    return outcome.how === 'ended' && outcome.streamed && isGone && heard.last !== undefined
  })
  for (const [id, each] of names) {
    ledger.left(each)
    const { runs } = ledger.calls.get(each)!
    if (isRepeated(runs, isForgotten))
      violations.add('runs', `${each} must not be repeated, and ran ${runs.length} times`)
    const answer = answers.get(id)
    const [{ text }] = (answer?.result?.['content'] ?? [{ text: undefined }]) as [{ text?: string }]
    if (text !== undefined && (JSON.parse(text) as { name: string }).name !== each) {
      violations.add('truth', `${each} got the answer of ${text}`)
    }
  }
}
