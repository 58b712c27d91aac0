import type { Store } from 'mcp-persist'
import { observed } from '../../test/support/observed-store.ts'

/** Something that took time, in ms on the clock that all processes of a machine share. */
export interface Span {
  readonly what: string
  readonly from: number
  readonly to: number
}

/** Milliseconds on the monotonic clock of the system. */
export function now(): number {
  return Number(process.hrtime.bigint()) / 1e6
}

/** Notes when each operation of a store began and ended, and when something was heard. */
export function timed(store: Store, spans: Span[]): Store {
  const note = (what: string, from: number) => void spans.push({ what, from, to: now() })
  return observed(store, {
    begin(operation) {
      const from = now()
      return () => note(operation, from)
    },
    wake: () => note('wake', now()),
  })
}

/** Milliseconds of a call, by where they were spent. They add up to the whole. */
export interface Shares {
  readonly app: number
  readonly store: number
  readonly messages: number
  readonly rest: number
}

/**
 * Divides calls that were made one after the other: what was under way at each moment, on whichever node? Where two
 * things were, the first of app, store, messages counts. A message or wake-up is under way until the other node hears
 * it. What is left is HTTP, SSE, the app's SDK, the engine and the client.
 */
export function divide(calls: readonly Pick<Span, 'from' | 'to'>[], nodes: readonly (readonly Span[])[]) {
  const app = nodes.flatMap((spans) => spans.filter(({ what }) => what === 'app'))
  const store = nodes.flatMap((spans) => spans.filter(({ what }) => !/^(app|wake|bus\..*)$/.test(what)))
  const messages = nodes.flatMap((spans, i) => {
    const heard = nodes
      .flatMap((each, other) => (other === i ? [] : times(each, 'wake')))
      .sort((a, b) => a - b)
    const sent = spans.filter(({ what }) => what === 'bus.send' || what === 'bus.publish')
    return sent.map((span) => ({ ...span, to: firstAfter(heard, span.from) ?? span.to }))
  })
  const of = [app, store, messages].map(sorted)
  const total = { app: 0, store: 0, messages: 0, rest: 0 }
  for (const call of calls) {
    const [inApp, withStore, withMessages] = [1, 2, 3].map((n) =>
      covered(call, of.slice(0, n).flatMap(near(call))),
    ) as [number, number, number]
    total.app += inApp
    total.store += withStore - inApp
    total.messages += withMessages - withStore
    total.rest += call.to - call.from - withMessages
  }
  const mean = (sum: number) => sum / calls.length
  const { app: a, store: s, messages: m, rest: r } = total
  return { app: mean(a), store: mean(s), messages: mean(m), rest: mean(r) } satisfies Shares
}

/** How often each operation began during the calls, divided by the calls. */
export function operations(
  calls: readonly Pick<Span, 'from' | 'to'>[],
  nodes: readonly (readonly Span[])[],
): Map<string, number> {
  const counts = new Map<string, number>()
  const all = sorted(nodes.flat().filter(({ what }) => what !== 'wake' && what !== 'app'))
  for (const call of calls) {
    for (const { what, from } of near(call)(all)) {
      if (from < call.from || from >= call.to) continue
      counts.set(what, (counts.get(what) ?? 0) + 1 / calls.length)
    }
  }
  return new Map([...counts].sort(([, a], [, b]) => b - a))
}

function sorted(spans: readonly Span[]): readonly Span[] {
  return [...spans].sort((a, b) => a.from - b.from)
}

function times(spans: readonly Span[], name: string): number[] {
  return spans.filter(({ what }) => what === name).map(({ from }) => from)
}

function firstAfter(moments: readonly number[], moment: number): number | undefined {
  return moments[lowest(moments.length, (i) => moments[i]! > moment)]
}

// Milliseconds. Nothing that belongs to a call began so long before it.
const REACH = 100

/** The spans that may touch a call, of all spans in order. */
function near(call: Pick<Span, 'from' | 'to'>) {
  return (spans: readonly Span[]): readonly Span[] =>
    spans.slice(
      lowest(spans.length, (i) => spans[i]!.from > call.from - REACH),
      lowest(spans.length, (i) => spans[i]!.from > call.to),
    )
}

/** The lowest index for which `holds`, which holds for all above it; `count` when there is none. */
function lowest(count: number, holds: (index: number) => boolean): number {
  let [low, high] = [0, count]
  while (low < high) {
    const middle = (low + high) >> 1
    if (holds(middle)) high = middle
    else low = middle + 1
  }
  return low
}

/** How much of a call is covered by spans, those that overlap counted once. */
function covered(call: Pick<Span, 'from' | 'to'>, spans: readonly Span[]): number {
  let [sum, end] = [0, call.from]
  for (const span of sorted(spans)) {
    const from = Math.max(span.from, end)
    const to = Math.min(span.to, call.to)
    if (to <= from) continue
    sum += to - from
    end = to
  }
  return sum
}
