import { describe, expect, test } from 'vitest'
import { PersistError } from '../../../src/errors.ts'
import { MemoryEventStore } from '../../../src/index.ts'
import type { StreamRef, Update } from '../../../src/session/streams/stream.ts'
import { Tail, type TailHost } from '../../../src/session/streams/tail.ts'
import { TAIL } from '../../../src/session/streams/tail-states.ts'
import type { EventLog, StoredEvent } from '../../../src/store/port.ts'
import { generator } from '../../support/random.ts'

/** A log of one stream, and a client whose buffer is full when it says so. */
class Bench {
  readonly log = new MemoryEventStore().log
  readonly written: string[] = []
  ended = false
  full = false
  last = 0
  epoch = ''
  onDrain: (() => void) | undefined

  async store(kind: StoredEvent['kind'], payload: string): Promise<Update> {
    const events = [{ streamId: 's', kind, payload }]
    const { positions, epoch } = await this.log.append({ sessionId: 'x', events, ttl: 60_000 })
    const before = this.last
    this.last = positions[0]!
    this.epoch = epoch
    return { streamId: 's', before, events: [{ ...events[0]!, position: this.last }], epoch }
  }

  tail({
    log = this.log,
    onGap,
    ...stream
  }: Partial<StreamRef & Pick<TailHost, 'log' | 'onGap'>> = {}): Tail {
    return new Tail({
      host: { log, ...(onGap && { onGap }) },
      sessionId: 'x',
      stream: { streamId: 's', after: 0, priming: false, ...stream },
      onClose: () => {},
    })
  }

  start(tail: Tail): void {
    const self = this
    tail.start({
      get onDrain() {
        return self.onDrain
      },
      set onDrain(value) {
        self.onDrain = value
      },
      write: (text) => {
        this.hear(text)
        return !this.full
      },
      end: (text = '') => {
        this.hear(text)
        this.ended = true
      },
      flush: () => {},
    })
  }

  hear(text: string): void {
    for (const [, data] of text.matchAll(/^data: (.+)$/gm)) this.written.push(data!)
    if (/^retry: /m.test(text)) this.written.push('retry')
  }

  drain(): void {
    this.full = false
    this.onDrain?.()
  }
}

const settle = () => new Promise((resolve) => setTimeout(resolve, 5))

describe('tail: the table', () => {
  test('whatever is closed stays closed, and nothing else leads there but a mistake of ours', () => {
    for (const [state, steps] of Object.entries(TAIL)) {
      for (const [event, [next, action]] of Object.entries(steps)) {
        if (state === 'closed') expect([next, action], event).toEqual(['closed', 'nothing'])
        else if (next === 'closed') expect(action, `${state} ${event}`).toBe('never')
      }
    }
  })

  test('whoever may lack something reads the log, or will when its client is ready', () => {
    expect(TAIL.live.missed).toEqual(['reading', 'read'])
    expect(TAIL.stale.read).toEqual(['reading', 'read'])
    expect(TAIL.late.drained).toEqual(['reading', 'read'])
    for (const state of ['fresh', 'waiting', 'reading', 'stale', 'full', 'late'] as const)
      expect(['waiting', 'stale', 'late'], state).toContain(TAIL[state].missed[0])
  })

  test('only what is live is written straight on', () => {
    const writing = Object.entries(TAIL).filter(([, steps]) => steps.pushed[1] === 'write')
    expect(writing.map(([state]) => state)).toEqual(['live'])
  })
})

describe('tail: what the client hears', () => {
  test('pushes in a row are written as they come; after a gap the log is read', async () => {
    const bench = new Bench()
    const tail = bench.tail({ fresh: true })
    bench.start(tail)
    tail.push(await bench.store('message', '1'))
    expect(bench.written).toEqual(['1'])
    await bench.store('message', '2')
    tail.push(await bench.store('message', '3'))
    expect(bench.written).toEqual(['1'])
    await settle()
    expect(bench.written).toEqual(['1', '2', '3'])
  })

  test('a push that says nothing of what was before it is no proof that nothing is missing', async () => {
    const bench = new Bench()
    const tail = bench.tail({ fresh: true })
    bench.start(tail)
    await bench.store('message', '1')
    tail.push({ ...(await bench.store('message', '2')), before: undefined })
    await settle()
    expect(bench.written).toEqual(['1', '2'])
  })

  test('what is doubled or comes late is not written again', async () => {
    const bench = new Bench()
    const tail = bench.tail({ fresh: true })
    bench.start(tail)
    const first = await bench.store('message', '1')
    tail.push(first)
    tail.push(await bench.store('message', '2'))
    tail.push(first)
    await settle()
    expect(bench.written).toEqual(['1', '2'])
  })

  test('a cut waits for the response to be open, and for what stands before it', async () => {
    const bench = new Bench()
    const tail = bench.tail({ fresh: true })
    const before = [await bench.store('message', '1'), await bench.store('message', '2')]
    tail.cutAfter(bench.last, 7)
    tail.push(before[0]!)
    bench.start(tail)
    await settle()
    expect(bench.written).toEqual(['1', 'retry'])
    expect(bench.ended).toBe(true)
  })

  test('a cut that is heard before the events is done behind them', async () => {
    const bench = new Bench()
    const tail = bench.tail({ fresh: true })
    bench.start(tail)
    tail.push(await bench.store('message', '1'))
    await bench.store('message', '2')
    tail.cutAfter(bench.last)
    expect(bench.ended).toBe(false)
    await settle()
    expect(bench.written).toEqual(['1', '2'])
    expect(bench.ended).toBe(true)
  })

  test('a stream that nobody writes to any more ends after what is stored', async () => {
    const bench = new Bench()
    const tail = bench.tail({ fresh: true })
    bench.start(tail)
    await bench.store('message', '1')
    tail.endAfterStored()
    await settle()
    expect([bench.written, bench.ended]).toEqual([['1'], true])
  })

  test('a stream whose end was heard ends, though the store has lost that end', async () => {
    const bench = new Bench()
    const log: EventLog = {
      append: (append) => bench.log.append(append),
      delete: (id) => bench.log.delete(id),
      read: async (query) => {
        const page = await bench.log.read(query)
        return { ...page, events: page.events.filter(({ kind }) => kind !== 'final') }
      },
    }
    const tail = bench.tail({ fresh: true, log })
    bench.start(tail)
    tail.push(await bench.store('message', '1'))
    tail.push({ ...(await bench.store('final', 'end')), before: undefined })
    await settle()
    expect([bench.written, bench.ended]).toEqual([['1'], true])
  })

  test('what the store has lost after it was written here is not written again, should it come late', async () => {
    const bench = new Bench()
    let lost = false
    const log: EventLog = {
      append: (append) => bench.log.append(append),
      delete: (id) => bench.log.delete(id),
      read: async (query) => {
        const page = await bench.log.read(query)
        return lost ? { ...page, events: [], last: 1 } : page
      },
    }
    const tail = bench.tail({ fresh: true, log })
    bench.start(tail)
    tail.push(await bench.store('message', '1'))
    const late = await bench.store('message', '2')
    tail.push(late)
    lost = true
    tail.nudge()
    await settle()
    tail.push({ ...late, before: 1 })
    expect(bench.written).toEqual(['1', '2'])
  })

  test('what could not be stored is written without an id, behind what is read', async () => {
    const bench = new Bench()
    await bench.store('message', '1')
    const tail = bench.tail()
    bench.start(tail)
    tail.pushUnstored('2', true)
    await settle()
    expect([bench.written, bench.ended]).toEqual([['1', '2'], true])
  })

  test('a log that cannot be read is tried again, and what is pushed meanwhile waits for its place', async () => {
    const bench = new Bench()
    let fails = 2
    const log: EventLog = {
      append: (append) => bench.log.append(append),
      delete: (id) => bench.log.delete(id),
      read: async (query) => {
        if (fails-- > 0) throw new PersistError('STORE_UNAVAILABLE', 'The store is away.')
        return bench.log.read(query)
      },
    }
    await bench.store('message', '1')
    const tail = bench.tail({ log })
    bench.start(tail)
    await settle()
    tail.push(await bench.store('message', '2'))
    expect(bench.written).toEqual([])
    await new Promise((resolve) => setTimeout(resolve, 600))
    expect(bench.written).toEqual(['1', '2'])
  })

  test.each(Array.from({ length: 40 }, (_, i) => i + 1))(
    'seed %i: complete, in order and once, whatever is pushed, lost or slow',
    async (seed) => {
      const random = generator(seed)
      const bench = new Bench()
      const tail = bench.tail(random() < 0.5 ? { fresh: true } : {})
      const stored: string[] = []
      let started = false
      for (let n = 1; n <= 60; n += 1) {
        const update = await bench.store('message', String(n))
        stored.push(String(n))
        if (random() < 0.7) tail.push(update)
        else tail.nudge()
        if (!started && random() < 0.2) {
          started = true
          bench.start(tail)
        }
        if (random() < 0.2) bench.full = true
        if (random() < 0.3) bench.drain()
        if (random() < 0.2) await settle()
      }
      if (!started) bench.start(tail)
      const last = await bench.store('final', 'end')
      if (random() < 0.5) tail.push(last)
      else tail.endAfterStored()
      for (let i = 0; i < 20 && !bench.ended; i += 1) {
        bench.drain()
        await settle()
      }
      expect(bench.written).toEqual([...stored, 'end'])
      expect(bench.ended).toBe(true)
    },
  )
})
