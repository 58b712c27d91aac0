import { expect, test } from 'vitest'
import { drive } from './drive.ts'
import { borrow } from './installed.ts'
import { unexpected } from './report.ts'
import { STACKS } from './stacks.ts'

test.each(STACKS.filter(({ cheap }) => cheap))(
  'two nodes of the example for $title',
  { timeout: 90_000 },
  async (stack) => {
    expect(unexpected(stack, await drive(stack, await borrow(stack)))).toEqual([])
  },
)
