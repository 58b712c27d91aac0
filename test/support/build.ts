import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { once } from './once.ts'
import { bundlePrograms } from './programs.ts'

const root = fileURLToPath(new URL('../../', import.meta.url))

/** Processes that tests start run the package from `dist/`: never an old one. */
export default function setup(): Promise<void> {
  return once('build', async () => {
    const compiled = promisify(execFile)('npm', ['run', '--silent', 'build'], { cwd: root })
    await Promise.all([
      compiled.catch(({ stdout }: { stdout: string }) => {
        throw new Error(`The sources do not compile:\n${stdout}`)
      }),
      bundlePrograms(),
    ])
  })
}
