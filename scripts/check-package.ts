import { spawnSync } from 'node:child_process'
import { mkdirSync, rmSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

/*
 * Packs what `npm run build` has left, and looks at the tarball as its users will: do the entries resolve, do the
 * types belong to the code? Both ask for ESM alone: Node 20.19 and later can `require` it.
 */
const root = fileURLToPath(new URL('../', import.meta.url))
const folder = `${root}.tmp/packed`

function run(command: string, ...args: string[]): string {
  const { status, stdout, stderr } = spawnSync(command, args, { cwd: root, encoding: 'utf8' })
  if (status !== 0) {
    console.error(`${command} ${args.join(' ')} ended with ${status}:\n${stdout}${stderr}`)
    process.exit(1)
  }
  return stdout.trim()
}

rmSync(folder, { recursive: true, force: true })
mkdirSync(folder, { recursive: true })
const [packed] = JSON.parse(
  run('npm', 'pack', '--ignore-scripts', '--json', '--pack-destination', folder),
) as [{ filename: string }]
const tarball = `${folder}/${packed.filename}`
run(`${root}node_modules/.bin/publint`, 'run', '--strict', tarball)
run(`${root}node_modules/.bin/attw`, '--profile', 'esm-only', '--format', 'ascii', '--no-emoji', tarball)
