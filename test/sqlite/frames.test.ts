import assert from 'node:assert/strict'
import { test } from 'vitest'
import { MESSAGE_LIMIT } from '../../src/store/port.ts'
import { FrameReader, frameHead } from '../../src/store/sqlite/sqlite-frames.ts'

const BODIES = ['', 'a', '', '', 'žluť'.repeat(100), 'end'].map((text) => Buffer.from(text))
const bytes = Buffer.concat(BODIES.flatMap((body) => [frameHead(body.length), body]))

test('frames come out as they went in, wherever the reads are cut', () => {
  for (const step of [1, 2, 3, 4, 5, 7, 64, bytes.length]) {
    const reader = new FrameReader()
    const frames: Buffer[] = []
    for (let at = 0; at < bytes.length; at += step) frames.push(...reader.read(bytes.subarray(at, at + step)))
    assert.deepEqual(frames, BODIES, `cut every ${step} bytes`)
    assert.equal(reader.unfinished, false)
  }
})

test('a frame of which a part has come is unfinished, from its first byte on', () => {
  for (const length of [1, 4, 5]) {
    const reader = new FrameReader()
    assert.deepEqual(
      [...reader.read(Buffer.concat([frameHead(2), Buffer.from('ab')]).subarray(0, length))],
      [],
    )
    assert.equal(reader.unfinished, true)
  }
})

test('a frame that is longer than a message may be is refused before it is read', () => {
  assert.throws(() => [...new FrameReader().read(frameHead(MESSAGE_LIMIT + 1))], RangeError)
})
