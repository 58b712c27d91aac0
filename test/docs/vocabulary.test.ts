import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'

const root = fileURLToPath(new URL('../../', import.meta.url))
const vocabulary = readFileSync(join(root, 'docs/vocabulary.md'), 'utf8')
const store = join(root, 'src/store')

/** What all backends share, and the classes by which each is named; their parts are named after the port's. */
const NAMED = /^(?:[\w-]+|common\/[\w-]+|(?:memory|sqlite|redis|postgres)\/\w+-store)\.ts$/

test('the classes and the parts of the port that src/store is made of stand in docs/vocabulary.md', () => {
  const files = readdirSync(store, { recursive: true, encoding: 'utf8' }).filter((file) => NAMED.test(file))
  const classes = files.flatMap((file) =>
    [...readFileSync(join(store, file), 'utf8').matchAll(/^(?:export )?class (\w+)/gm)].map(
      ([, name]) => name!,
    ),
  )
  const port = readFileSync(join(store, 'port.ts'), 'utf8')
  const backend = /export interface Backend \{(.*?)\n\}/s.exec(port)?.[1] ?? ''
  const parts = [...backend.matchAll(/readonly (?:log|sessions|nodes|bus|tasks|transfer)\??: (\w+)/g)]
  const names = [...classes, ...parts.map(([, name]) => name!)]
  expect(names.length).toBeGreaterThan(15)
  expect(names.filter((name) => !vocabulary.includes(`\`${name}\``))).toEqual([])
})

test('so do the classes of src/session', () => {
  const session = join(root, 'src/session')
  const files = readdirSync(session, { recursive: true, encoding: 'utf8' }).filter((file) =>
    file.endsWith('.ts'),
  )
  const names = files.flatMap((file) =>
    [...readFileSync(join(session, file), 'utf8').matchAll(/^export class (\w+)/gm)].map(([, name]) => name!),
  )
  expect(names.length).toBeGreaterThan(20)
  expect(names.filter((name) => !vocabulary.includes(`\`${name}\``))).toEqual([])
})
