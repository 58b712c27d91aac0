import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'

const run = promisify(execFile)
const program = fileURLToPath(new URL('./soak.ts', import.meta.url))

test('a soak run of some seconds, without restarts, ends with nothing wrong', async () => {
  const options = [
    '--minutes',
    '0.1',
    '--clients',
    '8',
    '--restart',
    '0',
    '--think',
    '300',
    '--store',
    'sqlite',
  ]
  const { stdout } = await run(process.execPath, ['--import', 'tsx', program, ...options], {
    timeout: 80_000,
    killSignal: 'SIGKILL',
  })
  expect(stdout).toMatch(/ \d{2,} calls had the right answer/)
  expect(stdout).toContain('No client noticed anything.')
}, 90_000)
