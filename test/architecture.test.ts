import { execFile } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'

const root = new URL('../src', import.meta.url).pathname

/** Rooms from top to bottom: a file may import from its own room and from those below it. */
const ROOMS = [
  'cli',
  'testing',
  'index',
  'backend',
  'with-persistence',
  'http',
  'session/engine',
  'session/opening',
  'session/serving',
  'session/app-word',
  'session/failure',
  'session/cluster',
  'session/ownership',
  'session/live',
  'session/streams',
  'session/protocol',
  'app',
  'store',
  'leaf',
] as const
const BACKENDS = ['memory', 'sqlite', 'redis', 'postgres'] as const

const files = readdirSync(root, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'))

function importsOf(file: string): string[] {
  const text = readFileSync(join(root, file), 'utf8')
  return [...text.matchAll(/(?:from|import)\s*\(?\s*'(\.[^']+)'/g)].map(([, path]) =>
    relative(root, join(root, dirname(file), path!)),
  )
}

function roomOf(file: string): (typeof ROOMS)[number] {
  const path = file.replace(/\.ts$/, '').split('/')
  const names = [path.slice(0, 2).join('/'), path[0]]
  return ROOMS.find((room) => names.includes(room)) ?? 'leaf'
}

function backendOf(file: string): string | undefined {
  return BACKENDS.find((backend) => file.startsWith(`store/${backend}/`))
}

test('imports point down only', () => {
  const wrong = files.flatMap((file) =>
    importsOf(file)
      .map((imported) => ({ from: roomOf(file), to: roomOf(imported), text: `${file} -> ${imported}` }))
      .filter(({ from, to }) => ROOMS.indexOf(to) < ROOMS.indexOf(from))
      .map(({ text }) => text),
  )
  expect(wrong).toEqual([])
})

/** Groups of files that import each other, in whatever roundabout way: what each reaches and is reached from. */
function circles(): string[][] {
  const reached = new Map(files.map((file) => [file, reachedFrom(file)]))
  const isJoined = (one: string, other: string) =>
    reached.get(one)!.has(other) && reached.get(other)!.has(one)
  const found = files.map((file) => [
    file,
    ...files.filter((other) => other !== file && isJoined(file, other)),
  ])
  const names = found.filter(({ length }) => length > 1).map((circle) => circle.sort().join(' '))
  return [...new Set(names)].map((name) => name.split(' '))
}

function reachedFrom(file: string): Set<string> {
  const reached = new Set<string>()
  const left = [file]
  for (let next = left.pop(); next !== undefined; next = left.pop()) {
    for (const imported of importsOf(next)) {
      if (reached.has(imported)) continue
      reached.add(imported)
      left.push(imported)
    }
  }
  return reached
}

test('no circle of files, types included', () => {
  expect(circles()).toEqual([])
})

test('the example of an own backend imports the package alone', () => {
  const folder = new URL('../examples/own-backend/', import.meta.url)
  const imports = readdirSync(folder).flatMap((file) => {
    const text = readFileSync(new URL(file, folder), 'utf8')
    return [...text.matchAll(/from '([^']+)'/g)].map(([, path]) => path!)
  })
  const foreign = imports.filter((path) => !/^(\.\/|node:|mcp-persist\/(backend|testing)$)/.test(path))
  expect(foreign).toEqual([])
})

test('no backend imports another, and nobody but openStore and the handler names one', () => {
  const mayName = new Set(['index.ts', 'with-persistence.ts', 'testing.ts', 'store/open-store.ts'])
  const wrong = files.flatMap((file) =>
    importsOf(file)
      .filter((imported) => {
        const backend = backendOf(imported)
        return backend !== undefined && backend !== backendOf(file) && !mayName.has(file)
      })
      .map((imported) => `${file} -> ${imported}`),
  )
  expect(wrong.filter((arrow) => !arrow.startsWith('cli/'))).toEqual([])
})

test('the core names no driver and no SDK but where it loads them on first use', () => {
  const packages = /(?:from|import\()\s*'(better-sqlite3|ioredis|pg|@modelcontextprotocol\/[^']+)'/g
  const wrong = files.flatMap((file) => {
    const text = readFileSync(join(root, file), 'utf8')
    return [...text.matchAll(packages)]
      .filter(([found]) => !found.startsWith('import('))
      .map(([, name]) => `${file} -> ${name}`)
  })
  expect(wrong).toEqual([])
})

/** Runs code against the sources in a process in which the packages that a user may lack cannot be resolved. */
async function runWithoutPackages(code: string): Promise<string> {
  const hooks = `export function resolve(name, context, next) {
    if (/^(better-sqlite3|ioredis|pg|@modelcontextprotocol\\/.+)$/.test(name)) throw new Error('wanted ' + name)
    return next(name, context)
  }`
  const registered = `import { register } from 'node:module'; register(${JSON.stringify(dataUrl(hooks))})`
  const args = ['--import', 'tsx', '--import', dataUrl(registered), '--input-type=module', '-e', code]
  const { stdout } = await promisify(execFile)(process.execPath, args, { timeout: 20_000 })
  return stdout.trim()
}

function dataUrl(code: string): string {
  return `data:text/javascript,${encodeURIComponent(code)}`
}

test('importing the package and naming a store loads no driver and no SDK', async () => {
  const code = `import { openStore } from ${JSON.stringify(join(root, 'index.ts'))}
    for (const url of ['sqlite:x.db', 'redis://127.0.0.1:1', 'postgres://127.0.0.1:1/x']) {
      const store = openStore(url)
      console.log(store.backend, await store.ready().then(() => 'opened', (error) => error.message))
      await store.close()
    }`
  // Opening them does: so the hook works.
  const [sqlite, redis, postgres] = (await runWithoutPackages(code)).split('\n')
  expect(sqlite).toMatch(/^sqlite .*wanted better-sqlite3/)
  expect(redis).toMatch(/^redis .*ioredis/)
  expect(postgres).toMatch(/^postgres .*wanted pg/)
})
