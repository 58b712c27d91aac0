import { expect, it } from 'vitest'
import { askRaw } from '../support/clients/wire.ts'
import { type Guarded, guardedFronts, house } from './support.ts'

const IDS = {
  'a name that every object has': 'constructor',
  'a prototype': '__proto__',
  'a method': 'toString',
  'one that is too long': 'x'.repeat(10_000),
  'one of 1 MiB': 'x'.repeat(1024 * 1024),
  'NUL in it': 'a\0b',
  'a line break in it': 'a\nMcp-Session-Id: b',
  'folded over two lines': 'a\r\n b',
  'bytes that are not ASCII': '\xe9\xff',
  'a path': '../../etc/passwd',
  'a pattern of the store': '*',
  SQL: "' OR '1'='1",
} as const

const users = { 'alice-1': 'alice' }
const cases = guardedFronts.flatMap((front) => [
  { front, name: 'the app knows its users', options: {} },
  { front, name: 'the option principal', options: { principal: () => 'alice' } },
])

it.each(cases)(
  'an id that names no session is a refusal, and nothing else happens ($front, $name)',
  async ({ front, options }) => {
    const home = house(front, { users }, options)
    const owner = await home.node()
    const other = await home.node()
    const alice = await home.open(owner, 'alice-1')
    const askAll = async (node: Guarded) => {
      const ask = async (what: string, id: string) => {
        for (const method of ['POST', 'GET', 'DELETE']) {
          const head = [
            `${method} /mcp HTTP/1.1`,
            'Host: localhost',
            'Authorization: Bearer alice-1',
            'Content-Type: application/json',
            'Accept: application/json, text/event-stream',
            `Mcp-Session-Id: ${id}`,
          ]
          const body = method === 'POST' ? JSON.stringify(alice.toolCall('counter')) : ''
          const { status } = await askRaw(new URL(node.url).origin, head, body)
          // 0: the parser hangs up on what is no HTTP.
          expect([0, 400, 404, 431], `${what}, ${method}`).toContain(status)
        }
      }
      await Promise.all(Object.entries(IDS).map(([what, id]) => ask(what, id)))
    }
    await askAll(owner)
    await askAll(other)
    expect(await alice.tool('counter')).toBe('1')
    await owner.leave()
    await askAll(other)
    expect(await home.as(alice, 'alice-1', other).tool('counter')).toBe('1')
    expect((await home.store.stats()).sessions).toBe(1)
  },
)
