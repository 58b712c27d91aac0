import { expect, test } from 'vitest'
import { Forwarded } from '../../../src/session/cluster/forwarded.ts'
import type { Tail } from '../../../src/session/streams/tail.ts'

const caller = { method: 'POST', url: '/mcp', headers: {} } as const

function forwarded(): Forwarded {
  return new Forwarded({
    sessionId: 'x',
    principal: { authInfo: null, jwt: null },
    caller,
    onOrphaned: () => {},
  })
}

/** What a client's stream is told, in its order. */
function told(): { readonly list: string[]; readonly tail: Tail } {
  const list: string[] = []
  const tail = {
    push: ({ before }: { before: number }) => list.push(`push after ${before}`),
    nudge: () => list.push('look'),
    cutAfter: (at: number) => list.push(`cut after ${at}`),
    close: () => list.push('close'),
    endAfterStored: () => list.push('finite'),
  }
  return { list, tail: tail as unknown as Tail }
}

function update(before: number) {
  const event = { streamId: 's', kind: 'message', payload: '{}', position: before + 1 } as const
  return { update: { streamId: 's', before, events: [event], epoch: 'e' } }
}

test('news that come before the answer are told in their order when the stream begins', () => {
  const { list, tail } = told()
  const stream = forwarded()
  stream.hear(update(1))
  stream.hear({ over: 'cut', at: 2 })
  stream.begin(tail)
  expect(list).toEqual(['push after 1', 'cut after 2'])
})

test('what was lost before the answer came is looked for when the stream begins', () => {
  const { list, tail } = told()
  const stream = forwarded()
  stream.look()
  stream.look()
  stream.begin(tail)
  expect(list).toEqual(['look'])
})

test('beyond the bound the log is read instead, and how it is over is kept', () => {
  const { list, tail } = told()
  const stream = forwarded()
  for (let i = 0; i < 1000; i += 1) stream.hear(update(i))
  stream.hear({ over: 'finite' })
  stream.begin(tail)
  expect(list.length).toBe(66)
  expect(list.slice(-2)).toEqual(['look', 'finite'])
})
