import { readFileSync } from 'node:fs'
import { Command } from 'commander'
import { afterEach, describe, expect, test, vi } from 'vitest'
import {
  addFlags,
  flagOf,
  PERSIST_FLAGS,
  persistOptions,
  SERVE_FLAGS,
  type ServeFlags,
  said,
  variableOf,
} from '../../src/cli/serve/options.ts'
import { type PersistOptions, resolveOptions } from '../../src/options.ts'

const read = (path: string) => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8')

/** A value of each option that is not its default; the compiler knows whether one is missing. */
const VALUES = {
  ttl: 60,
  sessions: 'sticky',
  path: '/other',
  idle: 5,
  takeover: 'any',
  maxSessions: 1,
  maxSessionsPerPrincipal: 2,
  maxCalls: 3,
  maxSubscriptions: 4,
  retryInterval: 5,
  keepAlive: 6,
  priming: false,
  maxBodyBytes: 7,
  onStoreError: 'fail',
  eventLimit: 8,
  lease: 9.5,
} as const satisfies Required<Omit<PersistOptions, 'principal' | 'authorise' | 'logger'>>

afterEach(() => {
  vi.unstubAllEnvs()
})

function parsed(args: readonly string[]): PersistOptions {
  const command = addFlags(new Command('serve').exitOverride())
  command.parse(args, { from: 'user' })
  return persistOptions(said(command.opts<ServeFlags>()))
}

test('every option of withPersistence that is no function is a flag', () => {
  const type = /export interface PersistOptions \{(.*?)\n\}/s.exec(read('src/options.ts'))![1]!
  const names = [...type.matchAll(/^ {2}readonly (\w+)\?: (.*)/gm)]
  const functions = names.filter(([, name, kind]) => kind!.includes('=>') || name === 'logger')
  expect(functions.map(([, name]) => name)).toEqual(['principal', 'authorise', 'logger'])
  const plain = names.filter((each) => !functions.includes(each)).map(([, name]) => name!)
  expect(Object.keys(PERSIST_FLAGS).sort()).toEqual(plain.sort())
})

describe('what is said reaches withPersistence, and is understood', () => {
  test('as flags', () => {
    const args = Object.entries(VALUES).flatMap(([name, value]) => [flagOf(name), String(value)])
    expect(parsed(args)).toEqual(VALUES)
    expect(() => resolveOptions(parsed(args))).not.toThrow()
  })

  test('as variables', () => {
    for (const [name, value] of Object.entries(VALUES)) vi.stubEnv(variableOf(name), String(value))
    expect(parsed([])).toEqual(VALUES)
  })

  test('a flag is stronger than a variable, and a variable that is empty says nothing', () => {
    vi.stubEnv('MCP_PERSIST_TTL', '10')
    vi.stubEnv('MCP_PERSIST_LEASE', '')
    expect(parsed(['--ttl', '20'])).toEqual({ ttl: 20 })
  })

  test('nothing said is nothing decided', () => expect(parsed([])).toEqual({}))
})

describe('docs/cli.md', () => {
  const section = /^## serve\n(.*?)^## /ms.exec(read('docs/cli.md'))![1]!
  const rows = [...section.matchAll(/^\| `--([\w-]+) <[^`]+>` +\| `(\w+)` +\|/gm)]

  test('names every flag with its variable, and no other', () => {
    const told = rows.map(([, flag, variable]) => [`--${flag}`, variable])
    const names = [...Object.keys(SERVE_FLAGS), ...Object.keys(PERSIST_FLAGS)]
    expect(told).toEqual([
      ['--url', 'MCP_PERSIST_URL'],
      ...names.map((name) => [flagOf(name), variableOf(name)]),
    ])
  })

  test('says of each what the help says of its default', () => {
    for (const [name, { help }] of Object.entries({ ...SERVE_FLAGS, ...PERSIST_FLAGS })) {
      const standard = /\(default: (.+)\)/.exec(help)?.[1]
      const row = section.split('\n').find((line) => line.includes(`\`${flagOf(name)} <`))!
      if (standard !== undefined) expect(row).toContain(`Default: ${standard}`)
    }
  })
})
