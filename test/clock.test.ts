import { stat } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { withTimeout } from '../src/clock.ts'

test('an answer that came while the process was stopped is not too late', async () => {
  const answer = withTimeout(stat('.'), 20, () => new Error('too late'))
  // As SIGSTOP would: nothing of this process runs, the rest of the world does.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 100)
  expect((await answer).isDirectory()).toBe(true)
})

test('what never comes is given up in time', async () => {
  const started = performance.now()
  await expect(withTimeout(new Promise(() => {}), 20, () => new Error('too late'))).rejects.toThrow(
    'too late',
  )
  expect(performance.now() - started).toBeLessThan(1000)
})
