import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'

const root = fileURLToPath(new URL('../../', import.meta.url))
const read = (path: string) => readFileSync(join(root, path), 'utf8')
const examples = filesIn('examples', '.ts').map((path) => ({ path, code: squeeze(read(path)) }))
const documents = [
  'README.md',
  'CHANGELOG.md',
  'CONTRIBUTING.md',
  'SECURITY.md',
  ...filesIn('docs', '.md').filter((path) => !path.startsWith('docs/reference/')),
  ...filesIn('examples', '.md'),
]

describe('the code in the documents stands in a file under examples/', () => {
  const blocks = documents.flatMap((path) =>
    [...read(path).matchAll(/```ts\n(.*?)```/gs)].map(([, code]) => code!),
  )

  test('there is code to look at', () => expect(blocks.length).toBeGreaterThan(10))

  test.each(blocks)('%s', (block) => {
    // What stands apart in a block may stand apart in the file.
    const parts = block.split(/\n\s*\n/).map(squeeze)
    const found = examples.filter(({ code }) => parts.every((part) => code.includes(part)))
    expect(found, `no example has all of:\n${block}`).not.toEqual([])
  })
})

describe('the docs name', () => {
  const options = /export interface PersistOptions \{(.*?)\n\}/s.exec(read('src/options.ts'))?.[1] ?? ''
  const codes = /export type ErrorCode =(.*?)\n\n/s.exec(read('src/errors.ts'))?.[1] ?? ''

  test.each([...options.matchAll(/^ {2}readonly (\w+)\?:/gm)].map(([, name]) => name!))(
    'the option %s',
    (name) => expect(entries('docs/options.md')).toContain(name),
  )
  test.each([...codes.matchAll(/'([A-Z_]+)'/g)].map(([, code]) => code!))('the error %s', (code) =>
    expect(entries('docs/errors.md')).toContain(code),
  )
  test('no option and no error that does not exist', () => {
    for (const name of entries('docs/options.md')) expect(options).toMatch(new RegExp(`readonly ${name}\\?:`))
    for (const code of entries('docs/errors.md')) expect(codes).toContain(`'${code}'`)
  })
})

test('every script that a document tells people to run exists', () => {
  const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> }
  const told = documents.flatMap((path) =>
    [...read(path).matchAll(/npm (?:run ([\w:]+)|(test))/g)].map(([, run, test]) => run ?? test!),
  )
  expect(told).toContain('demo')
  for (const name of told) expect(Object.keys(scripts)).toContain(name)
})

test('every command line of the documents has commands and flags that exist', () => {
  const code = filesIn('src/cli', '.ts').map(read).join('\n')
  const told = documents.flatMap((path) =>
    [...read(path).matchAll(/npx mcp-persist ([a-z]+)([^\n`#]*)/g)].map(([, command, rest]) => ({
      command: command!,
      flags: (rest!.split(' -- ')[0]!.match(/--[a-z-]+/g) ?? []).filter((flag) => flag !== '--'),
    })),
  )
  expect(told.length).toBeGreaterThan(20)
  for (const { command, flags } of told) {
    expect(code).toMatch(new RegExp(`command\\('${command}\\b`))
    for (const flag of flags)
      expect(code, `${command} ${flag}`).toMatch(new RegExp(`${flag}\\b|'${flag.slice(2)}'`))
  }
})

test('docs/quick-start.md is the quick start of the README', () => {
  const start = /^## Quick start\n(.*?)^## /ms.exec(read('README.md'))![1]!
  expect(read('docs/quick-start.md')).toContain(start.trim())
})

test('what docs/troubleshooting.md quotes is said by the sources', () => {
  const sources = filesIn('src', '.ts').map(read).join('\n')
  const [, client = '', log = ''] = read('docs/troubleshooting.md').split(
    /^## What (?:a client sees|the log says)$/m,
  )
  const quoted = [client, log].flatMap((part) =>
    [...part.matchAll(/^(?:\| |### )`([^`]+)`/gm)].map(([, message]) => message!),
  )
  expect(quoted.length).toBeGreaterThan(10)
  // What the app or the protocol says is not ours.
  const ours = quoted.filter((message) => !/^(?:400 No valid|\d+$)/.test(message))
  for (const message of ours) expect(sources).toContain(message.replace(/^404 /, ''))
})

test('the README is short, and has the two commands of a clone', () => {
  const readme = read('README.md')
  expect(readme.split('\n').length).toBeLessThan(190)
  for (const command of ['npm install && npm run demo', 'npm install && npm test'])
    expect(readme).toContain(command)
})

test.each(documents)('the links of %s lead somewhere', (path) => {
  const links = [...read(path).matchAll(/\]\(([^)\s]+)\)/g)].map(([, link]) => link!)
  for (const link of links.filter((each) => !/^[a-z]+:/.test(each))) {
    const [file = '', anchor] = link.split('#')
    const target = file === '' ? path : join(dirname(path), file)
    expect(existsSync(join(root, target)), `${link} in ${path}`).toBe(true)
    if (anchor) expect(anchors(target), `${link} in ${path}`).toContain(anchor)
  }
})

/** What has a heading of its own, or the first cell of a row. */
function entries(path: string): string[] {
  return [...read(path).matchAll(/^(?:### `(\w+)`$|\| `([A-Z_]+)` +\|)/gm)].map(([, a, b]) => a ?? b!)
}

function anchors(path: string): string[] {
  return [...read(path).matchAll(/^#+ (.+)$/gm)].map(([, heading]) =>
    heading!
      .toLowerCase()
      .replace(/[^\w\s-]/g, '')
      .replace(/\s/g, '-'),
  )
}

/** Layout says nothing about whether code is the same. */
function squeeze(code: string): string {
  return code.replace(/\s+/g, ' ').trim()
}

function filesIn(folder: string, extension: string): string[] {
  return readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith(extension))
    .map((entry) => relative(root, join(entry.parentPath, entry.name)))
}
