import { expect, test } from 'vitest'
import { Exchange, type ExchangeItem, type Said } from '../../../src/session/cluster/exchange.ts'
import { Stop } from '../../../src/stop.ts'
import { generator } from '../../support/random.ts'
import { onOwnedClock } from '../owned-clock.ts'

/*
 * Two nodes over a way on which anything is lost, doubled, delayed and overtaken: whatever it does, each question is
 * answered, worked at once, and forgotten.
 */
const SEEDS = 60

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

interface Way {
  readonly lost: number
  readonly doubled: number
  readonly delay: number
}

function pair(way: Way, random: () => number, work: (question: Said) => Promise<Said>, limit?: number) {
  const worked: object[] = []
  const left: object[] = []
  const sent: ExchangeItem['type'][] = []
  const nodes = new Map<string, Exchange>()
  const node = (name: string, peer: string) => {
    const exchange = new Exchange({
      ...(limit !== undefined && { limit }),
      send: (_to, item, body) => {
        sent.push(item.type)
        const copies = random() < way.lost ? 0 : random() < way.doubled ? 2 : 1
        for (let copy = 0; copy < copies; copy += 1) {
          setTimeout(() => nodes.get(peer)!.receive(name, item, body), Math.floor(random() * way.delay))
        }
      },
      onQuestion: async (_from, _id, question, gone) => {
        worked.push(question.content)
        gone.onStop(() => left.push(question.content))
        return work(question)
      },
    })
    nodes.set(name, exchange)
    return exchange
  }
  return { a: node('a', 'b'), b: node('b', 'a'), worked, left, sent }
}

test.each(Array.from({ length: SEEDS }, (_, i) => i + 1))(
  'seed %i: every question is answered, worked at once, and forgotten, whatever is lost, doubled and overtaken',
  (seed) =>
    onOwnedClock(600_000, async () => {
      const random = generator(seed)
      const way = { lost: random() * 0.6, doubled: random() * 0.6, delay: random() < 0.2 ? 20_000 : 300 }
      const { a, b, worked } = pair(way, random, async ({ content }) => {
        await sleep(random() < 0.2 ? 15_000 : random() * 50)
        return { content: { to: content }, body: Buffer.alloc(100) }
      })
      const asks = Array.from({ length: 40 }, async (_, i) => {
        await sleep(random() * 2000)
        const question = { n: i }
        expect(await a.ask('b', { content: question })).toMatchObject({ content: { to: question } })
      })
      await Promise.all(asks)
      expect(worked).toHaveLength(40)
      expect(new Set(worked).size).toBe(40)
      // The word that an answer has arrived may be lost as well.
      for (let i = 0; b.remembered > 0 && i < 1000; i += 1) await sleep(1000)
      expect(b.remembered).toBe(0)
      expect(worked, 'late doubles are not worked at').toHaveLength(40)
      a.reset()
      b.reset()
    }),
  60_000,
)

test('a quick call is a question and an answer; that it has arrived travels with the next question', () =>
  onOwnedClock(10_000, async () => {
    const { a, sent } = pair(
      { lost: 0, doubled: 0, delay: 1 },
      () => 0.99,
      async (question) => question,
    )
    for (let i = 0; i < 5; i += 1) await a.ask('b', { content: { i } })
    expect(sent.filter((type) => type === 'ask')).toHaveLength(5)
    expect(sent.filter((type) => type === 'answer')).toHaveLength(5)
    expect(sent).toHaveLength(14)
  }))

test('a long call is acknowledged at once, is asked after slowly, and is not sent again', () =>
  onOwnedClock(400_000, async () => {
    const { a, sent } = pair(
      { lost: 0, doubled: 0, delay: 1 },
      () => 0.99,
      async (question) => {
        await sleep(300_000)
        return question
      },
    )
    await a.ask('b', { content: {}, body: Buffer.alloc(1024) })
    expect(sent.filter((type) => type === 'ask')).toHaveLength(1)
    expect(sent.filter((type) => type === 'after').length).toBeLessThanOrEqual(60)
  }))

test.each([1, 2, 3, 4, 5, 6, 7, 8])(
  'seed %i: that nobody wants an answer any more is heard, whatever is lost, and the answer comes all the same',
  (seed) =>
    onOwnedClock(600_000, async () => {
      const { a, b, left } = pair({ lost: 0.7, doubled: 0.3, delay: 300 }, generator(seed), async () => {
        await sleep(100_000)
        return { content: {} }
      })
      const gone = new Stop()
      const asked = [{ n: 1 }, { n: 2 }]
      const answers = asked.map((content, i) =>
        a.ask('b', { content }, undefined, i === 0 ? gone : undefined),
      )
      await sleep(10_000)
      expect(left).toEqual([])
      gone.stop()
      await sleep(80_000)
      expect(left).toEqual([{ n: 1 }])
      await Promise.all(answers)
      a.reset()
      b.reset()
    }),
)

test('of a node that is gone nobody wants an answer any more', () =>
  onOwnedClock(10_000, async () => {
    const { a, b, left } = pair({ lost: 0, doubled: 0, delay: 1 }, generator(1), () => new Promise(() => {}))
    void a.ask('b', { content: { n: 1 } })
    await sleep(1000)
    expect(left).toEqual([])
    b.gone('a')
    expect(left).toEqual([{ n: 1 }])
    a.reset()
  }))

test('a question to a node that is gone ends, and what that node had asked is forgotten', () =>
  onOwnedClock(10_000, async () => {
    const { a, b } = pair(
      { lost: 0, doubled: 0, delay: 1 },
      () => 0.99,
      () => new Promise(() => {}),
    )
    const asked = a.ask('b', { content: {} })
    await sleep(50)
    expect(b.remembered).toBeGreaterThan(0)
    a.gone('b')
    b.gone('a')
    expect(await asked).toBe('gone')
    expect(b.remembered).toBe(0)
  }))

test('at the bound of memory a new question is refused, also when it comes once more, and nothing is forgotten', () =>
  onOwnedClock(100_000, async () => {
    const random = generator(7)
    const way = { lost: 0.3, doubled: 0.5, delay: 500 }
    let release: () => void = () => {}
    const released = new Promise<void>((resolve) => {
      release = resolve
    })
    const { a, b, worked } = pair(
      way,
      random,
      async (question) => {
        await released
        return question
      },
      10_000,
    )
    const body = Buffer.alloc(5000)
    const first = a.ask('b', { content: { n: 1 }, body })
    await sleep(5000)
    await expect(a.ask('b', { content: { n: 2 }, body })).rejects.toMatchObject({ code: 'OVERLOADED' })
    await sleep(5000)
    release()
    expect(await first).toMatchObject({ content: { n: 1 } })
    await sleep(20_000)
    expect(worked).toEqual([{ n: 1 }])
    expect(b.remembered).toBe(0)
  }))
