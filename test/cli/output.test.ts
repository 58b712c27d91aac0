import { expect, test } from 'vitest'
import { table } from '../../src/cli/output.ts'

test('a table of more rows than a call may have arguments', () => {
  const rows = Array.from({ length: 200_000 }, (_, i) => [`${i}`, 'x'])
  const lines = table([['NUMBER', 'VALUE'], ...rows])
  expect(lines.length).toBe(200_001)
  expect(lines.at(-1)).toBe('199999  x')
})
