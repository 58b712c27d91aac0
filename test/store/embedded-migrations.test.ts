import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { embedded } from '../../migrations/embed.ts'

test('the migrations in the code are those of the folder; `npm run embed` writes them', () => {
  const written = readFileSync(new URL('../../src/store/migrations/embedded.ts', import.meta.url), 'utf8')
  expect(written).toBe(embedded())
})
