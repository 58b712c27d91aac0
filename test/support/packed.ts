import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, readFile, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { once } from './once.ts'

const run = promisify(execFile)
const root = fileURLToPath(new URL('../../', import.meta.url))

/** The tarball that `npm publish` would send, of what stands in `dist/`. */
export function tarball(): Promise<string> {
  return once('tarball', async () => {
    const folder = join(root, '.tmp/tarball')
    await rm(folder, { recursive: true, force: true })
    await mkdir(folder, { recursive: true })
    const args = ['pack', '--ignore-scripts', '--json', '--pack-destination', folder]
    const { stdout } = await run('npm', args, { cwd: root })
    const [packed] = JSON.parse(stdout) as [{ filename: string }]
    return join(folder, packed.filename)
  })
}

/**
 * A folder outside the repository in which the packed package is installed beside `packages`, which are linked to ours:
 * what is not named there cannot be found from there.
 */
export async function install(packages: readonly string[]): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'mcp-persist-packed-'))
  const installed = join(folder, 'node_modules/mcp-persist')
  await mkdir(installed, { recursive: true })
  await run('tar', ['-xzf', await tarball(), '-C', installed, '--strip-components=1'])
  const { dependencies } = JSON.parse(await readFile(join(installed, 'package.json'), 'utf8')) as {
    dependencies: Record<string, string>
  }
  for (const name of [...packages, ...Object.keys(dependencies)]) {
    const link = join(folder, 'node_modules', name)
    await mkdir(dirname(link), { recursive: true })
    await symlink(join(root, 'node_modules', name), link)
  }
  return folder
}
