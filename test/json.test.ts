import { expect, test } from 'vitest'
import { findInitialize, parseJson } from '../src/json.ts'

const initialize = { jsonrpc: '2.0', id: 0, method: 'initialize', params: {} }
const other = { jsonrpc: '2.0', id: 1, method: 'tools/list' }

test.each([
  ['one', initialize],
  ['a batch of one', [initialize]],
  ['one among others', [other, initialize]],
])('%s is found', (_, parsed) => expect(findInitialize(parsed)).toBe(initialize))

test.each([
  ['a notification', { jsonrpc: '2.0', method: 'initialize' }],
  ['an id that is none', { ...initialize, id: null }],
  ['a batch in a batch', [[initialize]]],
  ['another method', other],
  ['an empty batch', []],
  ['a string', 'initialize'],
  ['null', null],
  ['nothing', undefined],
])('%s is none', (_, parsed) => expect(findInitialize(parsed)).toBeUndefined())

test('what is not JSON is undefined, however it comes', () => {
  expect(parseJson('{"a":1}')).toEqual({ a: 1 })
  expect(parseJson(Buffer.from('x{"a":1}').subarray(1))).toEqual({ a: 1 })
  expect(parseJson(new Uint8Array(0))).toBeUndefined()
  expect(parseJson('{')).toBeUndefined()
  expect(parseJson('\ufeff{"a":1}')).toEqual({ a: 1 })
})
